//! `images`: pictures of the mini-batch, decoded and prepared on the host's threads.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Resource;

use super::{HostTensor, permanent, size};
use crate::fault;
use crate::script::bindings::scorehost::script::images::{
    Filter as GuestFilter, Host, HostImage as ImageMethods, HostRecipe as RecipeMethods, Layout as GuestLayout, Loaded,
};
use crate::script::bindings::scorehost::script::types::{FailedFile, Failure};
use crate::script::limits::Held;
use crate::script::state::{GUEST_INPUT, State};
use crate::tensor::Tensor;
use crate::vision::ahead::{LoadError, Place};
use crate::vision::{Filter, Fit, Layout, Picture, Recipe};

/// A recipe in the making.
pub struct HostRecipe {
    recipe: Result<Recipe, String>,
}

/// A picture that a script holds: a file until something needs its pixels.
#[derive(Clone)]
pub struct HostImage {
    source: Source,
    width: u32,
    height: u32,
}

#[derive(Clone)]
enum Source {
    File { place: Place, path: PathBuf },
    Pixels { picture: Arc<Picture>, _held: Arc<Held> },
}

type Answered<T> = wasmtime::Result<Result<T, Failure>>;

impl From<&LoadError> for Failure {
    fn from(error: &LoadError) -> Self {
        super::of_fault(error.fault(), fault::chain(error))
    }
}

impl State {
    /// A file of the mini-batch by the path that the guest was given.
    pub(super) fn file(&self, guest_path: &str) -> Result<(Place, PathBuf), Failure> {
        let Some(&index) = self.call.files.get(guest_path) else {
            let shown = &guest_path[..guest_path.floor_char_boundary(MAX_SHOWN_BYTES)];
            let path = crate::script::printable(shown.as_bytes());
            return Err(permanent(format!("`{path}` is not a file of the mini-batch")));
        };
        let below = guest_path.strip_prefix(GUEST_INPUT).unwrap_or(guest_path).trim_start_matches('/');
        let place = Place { mini_batch: self.call.mini_batch, index };
        Ok((place, self.services.input_folder.join(below)))
    }

    fn recipe(&self, handle: &Resource<HostRecipe>) -> Answered<Recipe> {
        let recipe = self.things.get(handle)?.recipe.clone().map_err(permanent);
        Ok(recipe.and_then(|recipe| recipe.check().map(|()| recipe).map_err(|e| Failure::from(&e))))
    }

    fn change(&mut self, handle: &Resource<HostRecipe>, change: impl FnOnce(&mut Recipe)) -> wasmtime::Result<()> {
        if let Ok(recipe) = &mut self.things.get_mut(handle)?.recipe {
            change(recipe);
        }
        Ok(())
    }
}

impl Host for State {
    async fn load(&mut self, files: Vec<String>, recipe: Resource<HostRecipe>) -> Answered<Loaded> {
        let recipe = match self.recipe(&recipe)? {
            Ok(recipe) => recipe,
            Err(failure) => return Ok(Err(failure)),
        };
        if files.len() > self.call.files.len().max(MAX_REPEATED) {
            let (given, there) = (files.len(), self.call.files.len());
            return Ok(Err(permanent(format!("{given} files are named; the mini-batch has {there}"))));
        }
        let places = match files.iter().map(|f| self.file(f)).collect::<Result<Vec<_>, _>>() {
            Ok(places) => places,
            Err(failure) => return Ok(Err(failure)),
        };
        // Counted before it is decoded, since a guest can name one file many times: the rows, and the batch of them.
        let bytes = recipe.row_bytes().saturating_mul(places.len());
        let reserved = self.tensors.take(bytes).and_then(|rows| Ok((rows, self.tensors.take(bytes)?)));
        let (held_rows, held) = match reserved {
            Ok(reserved) => reserved,
            Err(reason) => return Ok(Err(permanent(reason))),
        };
        let loader = Arc::clone(&self.services.loader);
        let (mut rows, mut failed) = (Vec::with_capacity(places.len()), Vec::new());
        for (index, row) in (0u32..).zip(loader.rows(&places, &recipe).await) {
            match row {
                Ok(prepared) => rows.push(prepared.row.clone()),
                Err(error) => match Failure::from(error.as_ref()) {
                    // One file that may be readable later fails the call, so that it is tried again.
                    transient @ Failure::Transient(_) => return Ok(Err(transient)),
                    Failure::Permanent(reason) => failed.push(FailedFile { index, reason }),
                },
            }
        }
        let pictures = if rows.is_empty() { no_rows(&recipe)? } else { Tensor::stack(&rows)? };
        drop((rows, held_rows));
        let pictures = self.things.push(HostTensor::ready(pictures, held))?;
        Ok(Ok(Loaded { pictures, failed }))
    }
}

/// Of a path that is none: what follows it should be read as well.
const MAX_SHOWN_BYTES: usize = 256;

/// Files that one `load` may name although the mini-batch has fewer, as batches filled up with a repeated picture do.
/// Each costs a place in the decoders' queue, which a guest could fill with millions.
const MAX_REPEATED: usize = 4096;

/// A batch of no pictures, of the recipe's shape.
fn no_rows(recipe: &Recipe) -> wasmtime::Result<Tensor> {
    let mut shape = vec![0];
    shape.extend(recipe.row_shape());
    let empty = if recipe.keeps_bytes() { Tensor::from_u8(shape, vec![]) } else { Tensor::from_f32(shape, vec![]) };
    Ok(empty?)
}

impl RecipeMethods for State {
    fn new(&mut self, width: u32, height: u32) -> wasmtime::Result<Resource<HostRecipe>> {
        let recipe = Recipe::new(width, height).map_err(|e| fault::chain(&e));
        Ok(self.things.push(HostRecipe { recipe })?)
    }

    fn resize_filter(
        &mut self,
        this: Resource<HostRecipe>,
        filter: GuestFilter,
        antialias: bool,
    ) -> wasmtime::Result<()> {
        let filter = match filter {
            GuestFilter::Nearest => Filter::Nearest,
            GuestFilter::Bilinear => Filter::Bilinear,
            GuestFilter::Bicubic => Filter::Bicubic,
            GuestFilter::Lanczos => Filter::Lanczos,
        };
        self.change(&this, |recipe| recipe.set_filter(filter, antialias))
    }

    fn shorter_side(&mut self, this: Resource<HostRecipe>, pixels: u32) -> wasmtime::Result<()> {
        self.change(&this, |recipe| recipe.set_fit(Fit::ShorterSide(pixels)))
    }

    fn normalize(
        &mut self,
        this: Resource<HostRecipe>,
        scale: f32,
        mean: (f32, f32, f32),
        deviation: (f32, f32, f32),
    ) -> wasmtime::Result<()> {
        self.change(&this, |recipe| recipe.set_normalise(scale, mean.into(), deviation.into()))
    }

    fn layout(&mut self, this: Resource<HostRecipe>, layout: GuestLayout) -> wasmtime::Result<()> {
        let layout = match layout {
            GuestLayout::ChannelsFirst => Layout::ChannelsFirst,
            GuestLayout::ChannelsLast => Layout::ChannelsLast,
        };
        self.change(&this, |recipe| recipe.set_layout(layout))
    }

    fn blue_first(&mut self, this: Resource<HostRecipe>) -> wasmtime::Result<()> {
        self.change(&this, Recipe::set_blue_first)
    }

    fn bytes(&mut self, this: Resource<HostRecipe>) -> wasmtime::Result<()> {
        self.change(&this, Recipe::set_bytes)
    }

    fn upright(&mut self, this: Resource<HostRecipe>) -> wasmtime::Result<()> {
        self.change(&this, Recipe::set_upright)
    }

    fn drop(&mut self, this: Resource<HostRecipe>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl ImageMethods for State {
    async fn open(&mut self, file: String) -> Answered<Resource<HostImage>> {
        let (place, path) = match self.file(&file) {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let loader = Arc::clone(&self.services.loader);
        let (width, height) = match loader.size(place, &path).await {
            Ok(size) => size,
            Err(error) => return Ok(Err(Failure::from(error.as_ref()))),
        };
        let image = HostImage { source: Source::File { place, path }, width, height };
        Ok(Ok(self.things.push(image)?))
    }

    fn width(&mut self, this: Resource<HostImage>) -> wasmtime::Result<u32> {
        Ok(self.things.get(&this)?.width)
    }

    fn height(&mut self, this: Resource<HostImage>) -> wasmtime::Result<u32> {
        Ok(self.things.get(&this)?.height)
    }

    async fn crop(
        &mut self,
        this: Resource<HostImage>,
        left: u32,
        top: u32,
        width: u32,
        height: u32,
    ) -> Answered<Resource<HostImage>> {
        let image = self.things.get(&this)?.clone();
        let picture = match image.source {
            Source::Pixels { picture, .. } => picture,
            Source::File { path, .. } => {
                // The decoded file counts as long as it is cut from, and the cutting for as long as it is held.
                let pixels = size(image.width).saturating_mul(size(image.height)).saturating_mul(3);
                let held = match self.tensors.take(pixels) {
                    Ok(held) => held,
                    Err(reason) => return Ok(Err(permanent(reason))),
                };
                let picture = match Arc::clone(&self.services.loader).picture(&path).await {
                    Ok(picture) => picture,
                    Err(error) => return Ok(Err(Failure::from(error.as_ref()))),
                };
                let source = Source::Pixels { picture: Arc::clone(&picture), _held: held };
                // Kept decoded: whoever cuts once usually cuts again.
                self.things.get_mut(&this)?.source = source;
                picture
            }
        };
        let held = match self.tensors.take(size(width).saturating_mul(size(height)).saturating_mul(3)) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(permanent(reason))),
        };
        let cut = match picture.crop(left, top, width, height) {
            Ok(cut) => cut,
            Err(error) => return Ok(Err(Failure::from(&error))),
        };
        let source = Source::Pixels { picture: Arc::new(cut), _held: held };
        Ok(Ok(self.things.push(HostImage { source, width, height })?))
    }

    async fn tensor(
        &mut self,
        this: Resource<HostImage>,
        recipe: Resource<HostRecipe>,
    ) -> Answered<Resource<HostTensor>> {
        let image = self.things.get(&this)?.clone();
        let recipe = match self.recipe(&recipe)? {
            Ok(recipe) => recipe,
            Err(failure) => return Ok(Err(failure)),
        };
        let held = match self.tensors.take(recipe.row_bytes()) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(permanent(reason))),
        };
        let loader = Arc::clone(&self.services.loader);
        let prepared = match &image.source {
            Source::File { place, path } => loader.row(*place, path, &recipe).await,
            Source::Pixels { picture, .. } => loader.prepare(picture, &recipe).await,
        };
        match prepared {
            Ok(prepared) => Ok(Ok(self.things.push(HostTensor::ready(prepared.row.clone(), held))?)),
            Err(error) => Ok(Err(Failure::from(error.as_ref()))),
        }
    }

    fn drop(&mut self, this: Resource<HostImage>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}
