//! `new` and `build`: script projects, and whether what was built would run.

use std::path::{Path, PathBuf};

use super::{ScriptFacts, ServiceError, check_script};
use crate::deployment::{Spec, SpecError};
use crate::project::{self, Built, Language, Project};
use crate::script::Compiler;

/// The deployment of a project.
const DEPLOYMENT: &str = "deployment.yml";

/// Makes a script project in a new folder, called as the folder is.
///
/// # Errors
/// If the name or the model is refused, or the folder is there already.
pub fn new_project(language: Language, folder: &Path, model: Option<&Path>) -> Result<(), ServiceError> {
    Ok(project::create(language, folder, model)?)
}

/// A project, and where its component goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The project.
    pub project: Project,
    /// The component.
    pub output: PathBuf,
}

/// Opens a project. Its component goes to `output`, else where the project's `deployment.yml` names its script, else
/// to a file that is called as the folder is.
///
/// # Errors
/// If the folder is no project, or its deployment is wrong where it is asked.
pub fn plan_build(folder: &Path, output: Option<&Path>) -> Result<Plan, ServiceError> {
    let project = project::open(folder)?;
    let output = match output {
        Some(output) => output.to_owned(),
        None => script_of(folder)?,
    };
    Ok(Plan { project, output })
}

fn script_of(folder: &Path) -> Result<PathBuf, ServiceError> {
    let deployment = folder.join(DEPLOYMENT);
    let spec = if deployment.is_file() { Some(Spec::read(&deployment)?) } else { None };
    // One that names an artifact has no file that could be built.
    if let Some(spec) = spec.filter(|spec| spec.artifact().is_none())
        && let Some(script) = spec.script_path()?
    {
        return Ok(script);
    }
    let whole = std::path::absolute(folder).unwrap_or_default();
    let name = whole.file_name().unwrap_or("script".as_ref());
    Ok(folder.join(name).with_added_extension("wasm"))
}

/// Builds a project's component, and opens it as a job would.
///
/// # Errors
/// If it does not build, or what was built is refused.
pub fn build_project(plan: &Plan, compiler: &Compiler) -> Result<(Built, ScriptFacts), ServiceError> {
    let built = project::build(&plan.project, &plan.output)?;
    let facts = check_script(&built.component, compiler)?;
    Ok((built, facts))
}

/// The folder of the project whose component the deployment names and does not find.
pub(super) fn not_built(error: &SpecError) -> Option<&Path> {
    let SpecError::NotFound { key: "code_configuration.scoring_script", path, .. } = error else { return None };
    let folder = path.parent().map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f })?;
    project::open(folder).is_ok().then_some(folder)
}
