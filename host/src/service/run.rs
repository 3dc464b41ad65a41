//! `run`: a deployment and a folder → a complete output. Reads top-down as the flow of a job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::ServiceError;
use super::digest::ModelDigest;
use super::header::Header;
use super::model;
use super::registry::{Asking, fetch_script};
use crate::cache::{self, Private};
use crate::confine::{self, Confine, Confinement, Reach};
use crate::deployment::{self, Deployment, OutputAction, OutputFormat, Settings, Spec};
use crate::fault;
use crate::infer::Backend;
use crate::infer::device::{self, Chosen, Device, Named};
use crate::infer::trial::Trial;
use crate::job::plan::Plan;
use crate::job::record::{Counts, DeviceRecord, Record, State, cpu_seconds, peak_memory_bytes};
use crate::job::tally::Tally;
use crate::job::{self, Committed, Control, End, Job, Progress, Scorer, Summary};
use crate::output::{Existing, Format, MadeFolder, Output, OutputOptions, Resumed};
use crate::script::{self, CompileCache, Compiler, Engine, FileQuota, InstanceLimits, Level, Models, Script, Services};
use crate::store::{self, Spool};
use crate::vision;
use crate::vision::ahead::Loader;

/// A job as a caller asks for it.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The deployment.
    pub source: Source,
    /// The job's name, where somebody has given it one.
    pub name: Option<String>,
    /// What is scored.
    pub input: Input,
    /// Where the output goes.
    pub output: PathBuf,
    /// Where models run, if not where the deployment says.
    pub device: Option<Device>,
    /// What is named beside the device.
    pub named: Named,
    /// What becomes of an earlier output.
    pub existing: Existing,
    /// What compiles a script that was not compiled before.
    pub compiler: Compiler,
    /// What tries a model that was not tried before.
    pub trial: Trial,
    /// Whether the process that calls this confines itself to the job's folders, for good. A process that does other
    /// things as well takes [`Confine::Off`].
    pub confine: Confine,
}

/// Where a job's files are.
#[derive(Clone, Debug)]
pub enum Input {
    /// A folder of this machine, or one file.
    Path(PathBuf),
    /// A place in an object store, seen through a folder into which another process fetches.
    Place(Arc<Spool>),
}

impl Input {
    /// What it is called: what a job is resumed with has to be the same.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Input::Path(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
            Input::Place(spool) => spool.place().to_string().into(),
        }
    }

    fn spool(&self) -> Option<&Arc<Spool>> {
        match self {
            Input::Path(_) => None,
            Input::Place(spool) => Some(spool),
        }
    }
}

/// What a job tells while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// The process is confined as far as it was asked to; nothing of the job's contents was looked at, and no thread was
    /// started. What the observer starts now is inside.
    Confined(&'a Confinement),
    /// Everything is checked, and scoring begins.
    Started {
        /// The job's name.
        job: &'a str,
        /// Where models run, and why.
        device: &'a DeviceRecord,
        /// Files and mini-batches, and what an earlier run did of them.
        progress: Progress,
        /// Keys of the deployment that mean nothing here.
        not_used: &'a [String],
        /// What is scored and how, where there is no script.
        built_in: Option<&'a str>,
    },
    /// Mini-batches were committed: these.
    Committed(&'a Committed),
    /// They were; so far is the job.
    Progress(Progress),
}

/// A job that ran to an end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// What `job.json` says.
    pub record: Record,
}

/// Scores `request.input`, telling `observer` how it goes, until it is done or `control` says stop.
///
/// # Errors
/// If the request is refused, or the job cannot go on; what was committed can be resumed.
pub fn run(
    request: &RunRequest,
    control: &Control,
    observer: &mut dyn FnMut(&Event<'_>),
) -> Result<Outcome, ServiceError> {
    let deployment = read(&request.source)?;
    let options = output_options(request, &deployment.settings);
    if let (Input::Path(path), Ok(output)) = (&request.input, request.output.canonicalize())
        && path.canonicalize().is_ok_and(|input| input == output)
    {
        return Err(ServiceError::SameFolder(path.clone()));
    }
    Output::check(&options)?;
    let views = Views::new(request, &deployment)?;
    let plan = if request.existing == Existing::Resume { None } else { Some(new_plan(request, &deployment, &views)?) };
    let script = open_script(&request.compiler.clone().confined(request.confine), &deployment)?;
    let model = deployment.model.as_deref().map(ModelDigest::of).transpose()?;
    if let Some(model) = &model {
        let device = request.device.unwrap_or(device_of(deployment.settings.device));
        model::try_all(&request.trial.clone().confined(request.confine), device, &request.named, model)?;
    }
    // Before the wall, so that nothing around it has to be writable.
    let _made = MadeFolder::make(&request.output)?;
    let confinement = confine::confine(request.confine, &reach(request, &deployment, &views))?;
    observer(&Event::Confined(&confinement));
    let (models, mut device, backend) = open_models(request, &deployment, &views)?;
    let mut scorer = scorer(script, &deployment, &views, &models)?;
    let spool = request.input.spool();
    if let (Some(spool), Some(plan)) = (spool, &plan) {
        spool.begin(plan.names(), 0)?;
    }
    if let (Scorer::BuiltIn(scorer), Some(plan)) = (&mut scorer, &plan) {
        scorer.check_files(plan.names())?;
        // One that does not come is one that cannot be read; whoever scores it says why.
        let comes = |at: u64| spool.is_none_or(|spool| spool.wait(at + 1, control.stop_flag()).is_ok());
        let names = (0..).zip(plan.names()).take_while(|(at, _)| comes(*at)).map(|(_, name)| name);
        scorer.learn(&views.input, names, control.stop_flag())?;
    }
    let identity = backend.identity();
    let header = Header::new(
        &deployment,
        &scorer,
        model.as_ref(),
        (&device, &identity),
        (request.name.as_deref(), &request.input.name()),
    );
    let is_new = plan.is_some();
    let (mut output, plan, from, header) = open_output(options, plan, header)?;
    if let (Some(spool), false) = (spool, is_new) {
        spool.begin(plan.names(), plan.files_before(from.mini_batches))?;
    }
    if let Scorer::BuiltIn(scorer) = &mut scorer {
        scorer.recall(&header.value["columns"])?;
    }
    let files = file_quota(request, &deployment.settings, &output)?;
    let files_of = files_of(Arc::clone(&plan), views.input.clone(), spool.cloned());
    let services = services(&deployment, &header, &views, (models, files), files_of)?;
    let progress = Progress {
        tally: from,
        mini_batches: plan.mini_batch_count(),
        files: plan.file_count() as u64,
        ..Progress::default()
    };
    let not_used = &deployment.not_used;
    let built_in = if let Scorer::BuiltIn(scorer) = &scorer { Some(scorer.describe()) } else { None };
    let built_in = built_in.as_deref();
    observer(&Event::Started { job: &header.job, device: &device, progress, not_used, built_in });
    let job = Job {
        settings: &deployment.settings,
        scorer: &scorer,
        services: &services,
        plan: &plan,
        output_folder: &request.output,
        spool: spool.map(Arc::as_ref),
        from,
        control,
    };
    let clock = (SystemTime::now(), Instant::now());
    let mut summary = Summary::from(from);
    let result = job::run(&job, &mut output, &mut summary, |progress, committed| {
        observer(&Event::Committed(committed));
        observer(&Event::Progress(*progress));
    });
    device.notices = backend.notices();
    // Counted for people: where it cannot be, it is not worth an error.
    let bytes = output.bytes().unwrap_or_default();
    let outside = (device, confinement, bytes);
    if let Err(error) = result {
        summary.end = End::Failed(fault::chain(&error));
        let record = record(&job, &header, outside, &summary, clock);
        // The first error is the one to tell; the record is a courtesy where even the disk failed.
        let _ = output.suspend(&to_json(&record));
        return Err(error.into());
    }
    let record = record(&job, &header, outside, &summary, clock);
    match summary.end {
        End::Completed => output.finish(&to_json(&record))?,
        End::Failed(_) | End::Interrupted => output.suspend(&to_json(&record))?,
    }
    Ok(Outcome { end: summary.end, record })
}

/// Where a deployment's parts come from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The deployment's YAML.
    pub file: PathBuf,
    /// Values that replace the deployment's, by key.
    pub set: Vec<(String, String)>,
    /// Folders that its script and its model have to lie in; anywhere, where none is named. For YAML of strangers.
    pub within: Vec<PathBuf>,
    /// How a registry is asked for its script, where it names one. Not done for YAML of strangers.
    pub asking: Asking,
}

/// The deployment, resolved.
pub(super) fn read(source: &Source) -> Result<Deployment, ServiceError> {
    let mut spec = Spec::read(&source.file)?;
    for (key, value) in &source.set {
        spec.set(key, value)?;
    }
    if source.within.is_empty() {
        fetch_script(&mut spec, &source.asking)?;
    }
    // Before anything is looked for: whether it is there is not the writer's to know.
    if !source.within.is_empty() && !spec.is_within(&source.within) {
        return Err(ServiceError::Outside);
    }
    Ok(spec.resolve()?)
}

/// The deployment's script, compiled; none where it has none.
pub(super) fn open_script(compiler: &Compiler, deployment: &Deployment) -> Result<Option<Script>, ServiceError> {
    let Some(path) = &deployment.script else { return Ok(None) };
    let engine = Engine::new().map_err(ServiceError::Engine)?;
    let script = Script::open(&engine, &CompileCache::of_user(compiler.clone()), path);
    script.map(Some).map_err(|source| ServiceError::Script { path: path.clone(), source })
}

fn scorer(
    script: Option<Script>,
    deployment: &Deployment,
    views: &Views,
    models: &Models,
) -> Result<Scorer, ServiceError> {
    let (None, Some(folder)) = (&script, &views.model) else {
        let script = script.expect("a deployment without a model has a script; this is a bug");
        return Ok(Scorer::Script(script));
    };
    let file = model::file(deployment, folder).map_err(model::unknown)?;
    let session = models.session(Some(&file))?;
    Ok(Scorer::BuiltIn(model::built_in(deployment, &folder.join(file), session)?))
}

/// What a job touches from here on: its script is open, and its listing is made.
fn reach(request: &RunRequest, deployment: &Deployment, views: &Views) -> Reach {
    let whole = |path: &Path| path.canonicalize().ok();
    let input = if let Input::Path(path) = &request.input { Some(path.clone()) } else { None };
    let plans = request.input.spool().map(|spool| spool.folder().plans());
    let read = [input, Some(views.input.clone()), deployment.model.clone(), views.model.clone()];
    let kept = views.kept.iter().map(|folder| folder.path().to_owned());
    let shaders = Private::of_user(cache::GPU).folder().map(Path::to_owned);
    let write = std::iter::once(request.output.clone()).chain(shaders).chain(kept).chain(plans);
    let output = whole(&request.output).and_then(|output| output.parent().map(Path::to_owned));
    let temporary = views.kept.iter().filter_map(|folder| folder.path().parent().map(Path::to_owned));
    Reach {
        read: read.into_iter().flatten().collect(),
        libraries: request.named.onnxruntime.iter().cloned().collect(),
        write: write.collect(),
        tidy: output.into_iter().chain(temporary).collect(),
        // What is compiled of scripts: a job that could change that would change the next one's.
        sealed: cache::user_folder().map(|folder| folder.join(cache::COMPILED)).into_iter().collect(),
    }
}

/// Folders that scripts may read: the caller's own, or private ones around single files.
struct Views {
    input: PathBuf,
    model: Option<PathBuf>,
    /// Private folders, gone when the job ends.
    kept: Vec<tempfile::TempDir>,
}

impl Views {
    fn new(request: &RunRequest, deployment: &Deployment) -> Result<Self, ServiceError> {
        let mut kept = Vec::new();
        let mut view = |path: &Path| -> Result<PathBuf, ServiceError> {
            if !path.is_file() {
                return Ok(path.to_owned());
            }
            let folder = store::view_of_file(path, &std::env::temp_dir())?;
            kept.push(folder);
            Ok(kept[kept.len() - 1].path().to_owned())
        };
        let model = deployment.model.as_deref().map(&mut view).transpose()?;
        let input = match &request.input {
            Input::Path(path) => view(path)?,
            Input::Place(spool) => spool.folder().files(),
        };
        Ok(Self { input, model, kept })
    }
}

fn open_models(
    request: &RunRequest,
    deployment: &Deployment,
    views: &Views,
) -> Result<(Models, DeviceRecord, Arc<dyn Backend>), ServiceError> {
    let device = request.device.unwrap_or(device_of(deployment.settings.device));
    let folder = views.model.as_deref();
    let file = folder.and_then(|folder| model::file(deployment, folder).ok());
    let (chosen, models) = choose_models(device, &request.named, folder, file.as_deref())?;
    let record = DeviceRecord {
        name: chosen.backend.name().into(),
        description: chosen.backend.describe(),
        reason: chosen.reason,
        notices: Vec::new(),
    };
    Ok((models, record, chosen.backend))
}

/// The backend for a model folder, with its only model open on it, so that a refusal comes before the first
/// mini-batch. A folder of several is opened by the script.
fn choose_models(
    device: Device,
    named: &Named,
    folder: Option<&Path>,
    only: Option<&Path>,
) -> Result<(Chosen, Models), ServiceError> {
    let file = folder.zip(only).map(|(folder, only)| folder.join(only));
    let chosen = device::choose(&device::Request { device, named, model: file.as_deref() })?;
    let models = Models::new(folder, only, Arc::clone(&chosen.backend));
    if let (Some(file), Some(session)) = (&file, &chosen.session) {
        models.keep(file, session.clone());
    }
    Ok((chosen, models))
}

pub(super) fn device_of(device: deployment::Device) -> Device {
    match device {
        deployment::Device::Auto => Device::Auto,
        deployment::Device::Gpu => Device::Gpu,
        deployment::Device::Cpu => Device::Cpu,
        deployment::Device::Onnxruntime => Device::OnnxRuntime,
    }
}

fn output_options(request: &RunRequest, settings: &Settings) -> OutputOptions {
    OutputOptions {
        folder: request.output.clone(),
        file_name: settings.output_file_name.clone(),
        format: format_of(settings.output_format),
        keep_rows: settings.output_action == OutputAction::AppendRow,
        existing: request.existing,
    }
}

fn new_plan(request: &RunRequest, deployment: &Deployment, views: &Views) -> Result<Plan, ServiceError> {
    let mut plan = Plan::new(deployment.settings.mini_batch_size);
    match &request.input {
        Input::Path(_) => store::list(&views.input, Some(&request.output), |name| plan.push(name))?,
        Input::Place(spool) => spool.list(|name| plan.push(name))?,
    }
    plan.sort();
    if plan.file_count() == 0 {
        return Err(ServiceError::EmptyInput(request.input.name()));
    }
    Ok(plan)
}

/// Begins the output with its plan; without one, comes back to an output and the plan that it was begun with.
fn open_output(
    options: OutputOptions,
    plan: Option<Plan>,
    header: Header,
) -> Result<(Output, Arc<Plan>, Tally, Header), ServiceError> {
    if let Some(plan) = plan {
        let output = Output::create(options, &plan.to_bytes(), &header.value)?;
        return Ok((output, Arc::new(plan), Tally::default(), header));
    }
    let Resumed { output, plan, header: then, next, counts } = Output::resume(options)?;
    let header = header.continue_as(&then)?;
    let from = Tally { mini_batches: next, files: counts.files, failed: counts.failed, rows: counts.rows };
    Ok((output, Arc::new(Plan::from_bytes(&plan)?), from, header))
}

fn format_of(format: OutputFormat) -> Format {
    match format {
        OutputFormat::Azure => Format::Azure,
        OutputFormat::Csv => Format::Csv,
        OutputFormat::Jsonl => Format::Jsonl,
        OutputFormat::Parquet => Format::Parquet,
    }
}

fn services(
    deployment: &Deployment,
    header: &Header,
    views: &Views,
    (models, files): (Models, Arc<FileQuota>),
    files_of: impl Fn(u64) -> Vec<PathBuf> + Send + Sync + 'static,
) -> Result<Arc<Services>, ServiceError> {
    let settings = &deployment.settings;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(device::threads())
        .thread_name(|i| format!("decode-{i}"))
        .build()
        .map_err(ServiceError::Threads)?;
    let limits = vision::Limits { pixels: settings.limits.pixels, ..vision::Limits::default() };
    let loader = Loader::new(Arc::new(pool), limits, files_of);
    Ok(Arc::new(Services {
        job: header.job.clone(),
        deployment: deployment.name.clone(),
        settings: deployment.tags.clone(),
        environment: settings.environment_variables.clone(),
        input_folder: views.input.clone(),
        loader,
        models,
        deterministic: settings.deterministic,
        log_level: level_of(settings.logging_level),
        limits: limits_of(settings),
        files,
    }))
}

/// What scripts may write, less what an earlier run of the job committed.
fn file_quota(request: &RunRequest, settings: &Settings, output: &Output) -> Result<Arc<FileQuota>, ServiceError> {
    let is_begun = request.existing == Existing::Resume && settings.output_action == OutputAction::SummaryOnly;
    let (entries, bytes) = if is_begun { output.script_files()? } else { (0, 0) };
    let taken = entries.saturating_mul(script::ENTRY_BYTES).saturating_add(bytes);
    Ok(FileQuota::new(settings.limits.job_file_bytes, taken))
}

/// The files that a script can be given of a mini-batch, in the order in which it is given them; none while they are not
/// there.
fn files_of(plan: Arc<Plan>, folder: PathBuf, spool: Option<Arc<Spool>>) -> impl Fn(u64) -> Vec<PathBuf> {
    move |index| {
        if spool.as_ref().is_some_and(|spool| !spool.has(plan.files_before(index + 1))) {
            return Vec::new();
        }
        let unicode = plan.mini_batch(index).filter_map(|name| std::str::from_utf8(name).ok());
        unicode.map(|name| folder.join(name)).collect()
    }
}

fn level_of(level: deployment::LoggingLevel) -> Level {
    match level {
        deployment::LoggingLevel::Debug => Level::Debug,
        deployment::LoggingLevel::Info => Level::Info,
        deployment::LoggingLevel::Warning => Level::Warning,
    }
}

fn limits_of(settings: &Settings) -> InstanceLimits {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let limits = &settings.limits;
    InstanceLimits {
        memory_bytes: size(limits.memory),
        table_elements: size(limits.table_elements),
        tensor_bytes: size(limits.tensors),
        log_bytes: size(limits.log_bytes),
        output_rows: size(limits.output_rows),
        output_bytes: size(limits.output_bytes),
        file_bytes: limits.file_bytes,
        init: Duration::from_secs(limits.init),
    }
}

fn record(
    job: &Job<'_>,
    header: &Header,
    (device, confinement, output_bytes): (DeviceRecord, Confinement, u64),
    summary: &Summary,
    (started, began): (SystemTime, Instant),
) -> Record {
    let seconds = began.elapsed().as_secs_f64();
    let time = |t| humantime::format_rfc3339_millis(t).to_string();
    let files = summary.tally.files - job.from.files;
    Record {
        name: header.job.clone(),
        state: State::of(&summary.end),
        error: if let End::Failed(reason) = &summary.end { Some(reason.clone()) } else { None },
        started: time(started),
        ended: time(SystemTime::now()),
        seconds: rounded(seconds),
        resumed: header.is_resumed,
        counts: Counts::new(summary, job.plan.file_count(), job.plan.mini_batch_count()),
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        files_per_second: rounded(files as f64 / seconds.max(1e-9)),
        device_seconds: rounded(summary.device_time.as_secs_f64()),
        cpu_seconds: cpu_seconds("self"),
        input_bytes: summary.input_bytes,
        output_bytes,
        peak_memory_bytes: peak_memory_bytes(),
        device,
        confinement,
        deployment: job.services.deployment.clone(),
        script: header.script.clone(),
        model: header.model.clone(),
        predictions: (job.settings.output_action == OutputAction::AppendRow)
            .then(|| job.settings.output_file_name.clone()),
        settings: job.settings.clone(),
    }
}

/// To the millisecond, or three digits after the point.
fn rounded(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

fn to_json(record: &Record) -> Value {
    serde_json::to_value(record).expect("a record of plain values is JSON; this is a bug")
}
