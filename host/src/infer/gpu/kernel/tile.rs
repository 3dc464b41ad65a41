//! How one workgroup of a convolution cuts its work. Depends on the layer and the adapter, never on the batch.

use std::fmt;

use super::super::super::graph::Dims;
use super::abilities::{Abilities, Matrix};
use super::quads;

/// The cut of `conv_tiled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Tile {
    /// Output pixels.
    pub(super) rows: usize,
    /// Quads of output channels.
    pub(super) quads: usize,
    /// Output pixels per invocation.
    pub(super) per_thread: usize,
    /// Quads of the inner dimension in workgroup memory at a time.
    pub(super) step: usize,
}

impl Tile {
    pub(super) fn threads(self) -> usize {
        self.rows / self.per_thread * self.quads
    }

    fn workgroup_bytes(self) -> usize {
        (self.rows + 4 * self.quads) * self.step * 16
    }

    /// The cuts that `abilities` allow, the one that is taken untuned first: narrow layers take narrow tiles, so that few
    /// invocations work on channels that are not there.
    pub(super) fn all(to: Dims, abilities: &Abilities) -> Vec<Self> {
        let tile = |rows, quads, per_thread| Self { rows, quads, per_thread, step: 4 };
        let first = match quads(to.channels) {
            0..=4 => tile(128, 4, 4),
            5..=8 => tile(128, 8, 4),
            // A vector has one row per picture: high tiles would be empty.
            _ if to.pixels() == 1 => tile(32, 16, 2),
            _ => tile(128, 16, 8),
        };
        let others = [tile(64, 16, 4), tile(128, 8, 8), tile(64, 8, 4), tile(32, 16, 2), tile(64, 32, 8)];
        let fits = |tile: &Self| {
            tile.threads() <= abilities.invocations && tile.workgroup_bytes() <= abilities.workgroup_bytes
        };
        let mut all = vec![first];
        all.extend(
            others.into_iter().filter(|&other| other != first && other.quads <= quads(to.channels).next_multiple_of(4)),
        );
        all.retain(fits);
        all
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}×{} by {}", self.rows, 4 * self.quads, self.per_thread)
    }
}

/// The most products of matrices that a subgroup's text has for one slice: drivers unroll it, and some compile longer ones
/// for minutes.
const PRODUCTS: usize = 64;

/// Numbers between the rows of a slice in workgroup memory beyond its own, so that rows begin in different banks.
const PADDING: usize = 8;

/// The cut of `conv_matrix`: a workgroup is a grid of subgroups, each of which holds a grid of matrices of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct MatrixTile {
    pub(super) matrix: Matrix,
    /// Subgroups down (output pixels) and across (output channels).
    pub(super) subgroups: [usize; 2],
    /// Matrices of each subgroup, down and across.
    pub(super) fragments: [usize; 2],
    /// Numbers of the inner dimension in workgroup memory at a time.
    pub(super) step: usize,
    /// Slices in workgroup memory: with 2, one is filled while the other is multiplied.
    pub(super) buffers: usize,
}

impl MatrixTile {
    /// Output pixels.
    pub(super) fn rows(self) -> usize {
        self.subgroups[0] * self.fragments[0] * self.matrix.size
    }

    /// Output channels.
    pub(super) fn columns(self) -> usize {
        self.subgroups[1] * self.fragments[1] * self.matrix.size
    }

    pub(super) fn threads(self) -> usize {
        self.subgroups[0] * self.subgroups[1] * self.matrix.subgroup
    }

    /// Numbers from one row of a slice to the next.
    pub(super) fn pitch(self) -> usize {
        self.step + PADDING
    }

    fn slice_bytes(self) -> usize {
        2 * self.buffers * (self.rows() + self.columns()) * self.pitch()
    }

    /// Bytes for the sums of `wide` matrices of each subgroup.
    fn scratch_bytes(self, wide: usize) -> usize {
        4 * self.subgroups[0] * self.subgroups[1] * wide * self.matrix.size * self.matrix.size
    }

    /// How many matrices side by side go through workgroup memory together on their way out: as many as there is room for,
    /// since their rows are then written in longer runs.
    pub(super) fn wide(self, abilities: &Abilities) -> usize {
        let fits = |&wide: &usize| {
            self.fragments[1].is_multiple_of(wide)
                && self.slice_bytes() + self.scratch_bytes(wide) <= abilities.workgroup_bytes
        };
        [4, 2].into_iter().find(fits).unwrap_or(1)
    }

    fn products(self) -> usize {
        self.fragments[0] * self.fragments[1] * (self.step / self.matrix.size)
    }

    fn fits(self, abilities: &Abilities) -> bool {
        let quads = self.step / 4;
        let even = |side: usize| (side * quads).is_multiple_of(self.threads());
        self.threads() <= abilities.invocations
            && self.products() <= PRODUCTS
            && even(self.rows())
            && even(self.columns())
            && self.threads().is_multiple_of(quads)
            && self.slice_bytes() + self.scratch_bytes(1) <= abilities.workgroup_bytes
    }

    /// The cuts that `abilities` allow, the one that is taken untuned first.
    pub(super) fn all(to: Dims, abilities: &Abilities) -> Vec<Self> {
        let Some(matrix) = abilities.matrix else { return Vec::new() };
        let tile = |subgroups, fragments, step, buffers| Self { matrix, subgroups, fragments, step, buffers };
        let narrow = 64.min(8 * matrix.size);
        let first: &[([usize; 2], [usize; 2])] = if matrix.subgroup < 32 {
            // A software adapter, whose compiler takes seconds for each larger one.
            &[([4, 2], [1, 2])]
        } else if to.pixels() == 1 {
            // A vector has one row per picture: low tiles.
            &[([2, 2], [2, 2]), ([4, 2], [1, 2])]
        } else if to.channels <= narrow / 2 {
            &[([4, 2], [2, 1]), ([4, 2], [2, 2])]
        } else if to.channels <= narrow {
            &[([4, 2], [2, 2]), ([4, 2], [2, 4])]
        } else {
            &[([4, 2], [2, 4]), ([4, 2], [2, 2])]
        };
        let others: &[([usize; 2], [usize; 2])] = &[
            ([2, 4], [4, 2]),
            ([4, 2], [4, 4]),
            ([2, 2], [4, 4]),
            ([4, 2], [2, 2]),
            ([2, 2], [2, 2]),
            ([4, 2], [1, 2]),
        ];
        let mut all: Vec<Self> = Vec::new();
        let mut add = |made: Self| {
            if made.fits(abilities) && !all.contains(&made) {
                all.push(made);
            }
        };
        for &(subgroups, fragments) in first {
            [(32, 2), (32, 1), (16, 1), (64, 1)].into_iter().for_each(|(k, n)| add(tile(subgroups, fragments, k, n)));
        }
        for &(subgroups, fragments) in others {
            [(32, 2), (32, 1), (64, 1)].into_iter().for_each(|(k, n)| add(tile(subgroups, fragments, k, n)));
        }
        all
    }
}

impl fmt::Display for MatrixTile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ([a, b], [c, d]) = (self.subgroups, self.fragments);
        write!(f, "{}×{} k{}×{} of {a}×{b}·{c}×{d}", self.rows(), self.columns(), self.step, self.buffers)
    }
}

/// The cut of a convolution, or that there is none to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Variant {
    /// The kernel has one form.
    Only,
    /// `conv_tiled`.
    Tile(Tile),
    /// `conv_matrix`.
    Matrix(MatrixTile),
}

impl Variant {
    /// How long its text is, as drivers see it once loops are unrolled: the products of matrices for one slice.
    pub(in super::super) fn products(self) -> usize {
        match self {
            Variant::Only | Variant::Tile(_) => 1,
            Variant::Matrix(tile) => tile.products(),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Variant::Only => Ok(()),
            Variant::Tile(tile) => tile.fmt(f),
            Variant::Matrix(tile) => tile.fmt(f),
        }
    }
}
