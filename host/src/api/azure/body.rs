//! A job as Azure's clients post it → the same wish in the words of this host. What is not done here is refused by its name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::problem::Problem;
use crate::service::host::{InputSpec, JobRequest, StoreUrl};

/// What the address of an upload begins with.
const UPLOAD: &str = "scorehost:uploads/";

/// The names of a body's members: Azure takes them in capitals and small letters alike.
const MEMBERS: [&str; 28] = [
    "properties",
    "inputData",
    "outputData",
    "jobInputType",
    "jobOutputType",
    "uri",
    "value",
    "mode",
    "compute",
    "instanceCount",
    "target",
    "isLocal",
    "instanceType",
    "location",
    "miniBatchSize",
    "errorThreshold",
    "retrySettings",
    "maxRetries",
    "timeout",
    "outputFileName",
    "maxConcurrencyPerInstance",
    "loggingLevel",
    "partitionKeys",
    "dataset",
    "outputDataset",
    "name",
    "description",
    "tags",
];

/// Members that replace a deployment's settings, and which.
const SETTINGS: [(&str, &str); 8] = [
    ("miniBatchSize", "settings.mini_batch_size"),
    ("errorThreshold", "settings.error_threshold"),
    ("retrySettings.maxRetries", "settings.retry_settings.max_retries"),
    ("retrySettings.timeout", "settings.retry_settings.timeout"),
    ("outputFileName", "settings.output_file_name"),
    ("maxConcurrencyPerInstance", "settings.max_concurrency_per_instance"),
    ("loggingLevel", "settings.logging_level"),
    ("compute.instanceCount", "resources.instance_count"),
];

/// A job to post, in Azure's words. Members may be spelt in capitals and small letters alike: `InputData` is `inputData`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AzureJobRequest {
    /// The job.
    pub(super) properties: AzureJobProperties,
}

/// What is to be done.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AzureJobProperties {
    /// The one input, under any name.
    input_data: BTreeMap<String, AzureInput>,
    /// With an address, where the output is published; it stays on the host as well.
    #[serde(default)]
    output_data: BTreeMap<String, AzureOutput>,
    /// Where it runs.
    compute: Option<AzureCompute>,
    /// Files of one call of the script.
    mini_batch_size: Option<Whole>,
    /// Failed files before the job is stopped; -1 for any number.
    error_threshold: Option<Whole>,
    /// What becomes of mini-batches that fail.
    retry_settings: Option<AzureRetries>,
    /// The name of the file with the rows.
    output_file_name: Option<String>,
    /// Script instances at once.
    max_concurrency_per_instance: Option<Whole>,
    /// `Warning`, `Info` or `Debug`.
    logging_level: Option<String>,
    /// Refused: mini-batches are of files.
    partition_keys: Option<Vec<String>>,
    /// Refused: `inputData` has the input.
    dataset: Option<Value>,
    /// Refused.
    output_dataset: Option<Value>,
    /// Refused: the host names jobs.
    name: Option<String>,
    /// Refused: jobs have none.
    description: Option<String>,
    /// Refused, unless empty: jobs have none.
    #[serde(default)]
    tags: BTreeMap<String, Value>,
    /// Whatever is in it, it means nothing here.
    #[serde(default)]
    properties: BTreeMap<String, Value>,
}

/// An input.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AzureInput {
    /// `UriFolder` or `UriFile`.
    job_input_type: String,
    /// `file:///FOLDER` or `/FOLDER` on the host, below one that the operator allows; or `scorehost:uploads/ID`.
    uri: Option<String>,
    /// Refused: a model takes no literals.
    value: Option<Value>,
    /// How Azure brings it to the script; it means nothing here.
    #[serde(rename = "mode")]
    _mode: Option<String>,
}

/// An output.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AzureOutput {
    /// `UriFile`.
    #[serde(rename = "jobOutputType")]
    _job_output_type: Option<String>,
    /// The place in an object store that the output is published to.
    uri: Option<String>,
    /// It means nothing here.
    #[serde(rename = "mode")]
    _mode: Option<String>,
}

/// Where a job runs: on this host, whatever is said.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AzureCompute {
    /// Instances at once.
    instance_count: Option<Whole>,
    /// It means nothing here, as in a deployment.
    #[serde(rename = "target")]
    _target: Option<String>,
    /// It means nothing here.
    #[serde(rename = "isLocal")]
    _is_local: Option<bool>,
    /// It means nothing here.
    #[serde(rename = "instanceType")]
    _instance_type: Option<String>,
    /// It means nothing here.
    #[serde(rename = "location")]
    _location: Option<String>,
    /// It means nothing here.
    #[serde(rename = "properties")]
    _properties: Option<Value>,
}

/// What becomes of mini-batches that fail.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AzureRetries {
    /// Attempts after the first.
    max_retries: Option<Whole>,
    /// How long one attempt may take: `PT30S`.
    timeout: Option<String>,
}

/// A whole number; Azure's own examples write some as texts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "`miniBatchSize` and other numbers are whole ones, such as 10")]
enum Whole {
    /// As one.
    Number(i64),
    /// As a text.
    Text(String),
}

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whole::Number(number) => number.fmt(f),
            Whole::Text(text) => text.fmt(f),
        }
    }
}

/// The body with its members spelt as they are here, and without those that are `null`.
pub(super) fn spelt(body: Value) -> Result<Value, Problem> {
    let Value::Object(members) = body else { return Ok(body) };
    let mut spelt = Map::new();
    for (written, value) in members {
        let name = MEMBERS.into_iter().find(|name| name.eq_ignore_ascii_case(&written));
        let value = match (name, value) {
            (_, Value::Null) => continue,
            // The names in these are the caller's own.
            (Some("inputData" | "outputData"), Value::Object(named)) => {
                let spelt = named.into_iter().map(|(name, value)| match value {
                    Value::Object(_) => Ok((name, self::spelt(value)?)),
                    _ => Err(Problem::refused(&format!("`{}` is not an object", shown(&name)))),
                });
                Value::Object(spelt.collect::<Result<_, Problem>>()?)
            }
            (Some("tags" | "value" | "dataset" | "outputDataset"), value) => value,
            (Some("partitionKeys"), value) => value,
            // Elsewhere a list would be taken for members without their names.
            (_, Value::Array(_)) => return Err(Problem::refused(&format!("`{}` is a list", shown(&written)))),
            (_, value) => self::spelt(value)?,
        };
        let name = name.map_or(written, str::to_owned);
        if spelt.contains_key(&name) {
            return Err(Problem::refused(&format!("the body says `{name}` twice")));
        }
        spelt.insert(name, value);
    }
    Ok(Value::Object(spelt))
}

/// What is wrong with a setting, by the member that it was written as.
pub(super) fn azures_words(detail: &str) -> String {
    SETTINGS.iter().fold(detail.to_owned(), |detail, (member, key)| {
        detail.replace(&format!("`--set {key}`: "), "").replace(&format!("`{key}`"), &format!("`{member}`"))
    })
}

/// The same wish in the words of this host.
pub(super) fn wish(job: AzureJobProperties, deployment: Option<String>) -> Result<JobRequest, Problem> {
    refuse(&job)?;
    let mut inputs = job.input_data.iter();
    let (Some((name, wanted)), None) = (inputs.next(), inputs.next()) else {
        return Err(Problem::refused(
            "`inputData` has to hold one input\nhint: a job of a model scores one folder or file",
        ));
    };
    let (input, output) = (input(name, wanted)?, output(&job.output_data)?);
    let mut set = BTreeMap::new();
    let mut replace = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            set.insert(key.to_owned(), value);
        }
    };
    let whole = |number: Option<Whole>| number.map(|number| number.to_string());
    let (max_retries, timeout) = job.retry_settings.map_or((None, None), |retry| (retry.max_retries, retry.timeout));
    if let Some(long) = timeout.as_ref().filter(|text| text.starts_with('P') && !text.starts_with("PT")) {
        let long: String = long.chars().take(64).collect();
        return Err(Problem::refused(&format!("the timeout `{long}` has days\nhint: write it in hours, as `PT36H`")));
    }
    let values = [
        whole(job.mini_batch_size),
        whole(job.error_threshold),
        whole(max_retries),
        timeout,
        job.output_file_name,
        whole(job.max_concurrency_per_instance),
        job.logging_level.map(|level| level.to_ascii_lowercase()),
        whole(job.compute.and_then(|compute| compute.instance_count)),
    ];
    SETTINGS.into_iter().zip(values).for_each(|((_, key), value)| replace(key, value));
    Ok(JobRequest { input, output, deployment, set })
}

/// What Azure does and this host does not, by its name.
fn refuse(job: &AzureJobProperties) -> Result<(), Problem> {
    // What the names in `properties` are, such as an experiment's, changes no result.
    let _ = &job.properties;
    let cases = [
        (
            job.output_dataset.is_some(),
            "`outputDataset` is not supported\nhint: name a place in `outputData`, or leave it out",
        ),
        (
            job.partition_keys.is_some(),
            "`partitionKeys` is not supported\nhint: mini-batches are of `miniBatchSize` files",
        ),
        (job.dataset.is_some(), "`dataset` is not supported\nhint: name the input in `inputData`"),
        (job.name.is_some(), "`name` is not supported\nhint: leave it out; the answer has the name that the host gave"),
        (job.description.is_some(), "`description` is not supported\nhint: leave it out; jobs have none"),
        (!job.tags.is_empty(), "`tags` are not supported\nhint: leave them out; endpoints and deployments have tags"),
    ];
    match cases.iter().find(|(is_there, _)| *is_there) {
        Some((_, text)) => Err(Problem::refused(text)),
        None => Ok(()),
    }
}

/// The place in an object store that the output is published to.
fn output(outputs: &BTreeMap<String, AzureOutput>) -> Result<Option<StoreUrl>, Problem> {
    let mut places = outputs.values().filter_map(|output| output.uri.as_deref());
    let Some(place) = places.next() else { return Ok(None) };
    if places.next().is_some() {
        let text = "`outputData` names several places\nhint: an output is published to one; leave the others out";
        return Err(Problem::refused(text));
    }
    place.parse().map(Some).map_err(|_| {
        Problem::refused(&format!(
            "`outputData` names `{}`, where this host publishes nothing\nhint: name a place in an object store that its \
             operator allows, or leave it out and download the output from the job",
            shown(place)
        ))
    })
}

/// What is scored.
fn input(name: &str, input: &AzureInput) -> Result<InputSpec, Problem> {
    let is_files = ["UriFolder", "UriFile"].iter().any(|kind| kind.eq_ignore_ascii_case(&input.job_input_type));
    if !is_files || input.value.is_some() {
        let detail = format!("input `{}` is a `{}`", shown(name), shown(&input.job_input_type));
        return Err(Problem::refused(&format!(
            "{detail}\nhint: a model takes a `UriFolder` or a `UriFile`, with its `uri`"
        )));
    }
    let Some(uri) = &input.uri else {
        return Err(Problem::refused(&format!("input `{}` has no `uri`", shown(name))));
    };
    if let Some(id) = uri.strip_prefix(UPLOAD) {
        return Ok(InputSpec::Upload(id.to_owned()));
    }
    if let Ok(place) = uri.parse() {
        return Ok(InputSpec::Url(place));
    }
    let path = uri.strip_prefix("file://").map_or_else(|| uri.starts_with('/').then(|| uri.clone()), decoded);
    path.map(InputSpec::Path).ok_or_else(|| {
        Problem::refused(&format!(
            "input `{}` lies at `{}`, where this host reads nothing\nhint: `file:///FOLDER` is a folder of the host that its \
             operator allows, `{UPLOAD}ID` one that was sent",
            shown(name),
            shown(uri)
        ))
    })
}

/// What a stranger wrote, as messages repeat it.
fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '�' } else { c }).collect()
}

/// The path of a `file:` address of this machine.
fn decoded(rest: &str) -> Option<String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.as_bytes();
    while let Some((byte, after)) = left.split_first() {
        left = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits =
            std::str::from_utf8(left.get(..2)?).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        left = &left[2..];
    }
    String::from_utf8(bytes).ok().filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(body: Value) -> Result<JobRequest, String> {
        let told = |problem: Problem| serde_json::to_value(problem).unwrap()["detail"].as_str().unwrap().to_owned();
        let body = serde_json::from_value::<AzureJobRequest>(spelt(body).map_err(told)?).map_err(|e| e.to_string())?;
        wish(body.properties, None).map_err(told)
    }

    #[test]
    fn what_is_wrong_with_a_setting_is_told_by_its_member() {
        let told = "`--set settings.mini_batch_size`: `settings.mini_batch_size` is the number `0`; allowed is 1";
        assert_eq!(azures_words(told), "`miniBatchSize` is the number `0`; allowed is 1");
        assert_eq!(azures_words("there is no endpoint `e`"), "there is no endpoint `e`");
    }

    #[test]
    fn azures_documents_and_its_client_are_understood_alike() {
        // As the documents of Azure's REST write it, and as azure-ai-ml 1.35 does.
        let written = json!({"properties": {
            "InputData": {"mnist": {"JobInputType": "UriFolder", "Uri": "file:///data/a%20b"}},
            "OutputData": {"score": {"JobOutputType": "UriFile"}},
            "Compute": {"InstanceCount": 1}, "MiniBatchSize": "5", "ErrorThreshold": -1,
            "RetrySettings": {"MaxRetries": 3, "Timeout": "PT30S"}, "OutputFileName": "a.csv",
            "MaxConcurrencyPerInstance": 2, "LoggingLevel": "Info", "Properties": {"experimentName": "e"},
        }});
        let sent = json!({"properties": {
            "inputData": {"UriFolder": {"jobInputType": "UriFolder", "uri": "/data/a b"}},
            "outputData": {"score": {"jobOutputType": "UriFile", "mode": null}},
            "compute": {"isLocal": false, "target": "gpu", "instanceCount": 1}, "miniBatchSize": 5, "errorThreshold": -1,
            "retrySettings": {"maxRetries": 3, "timeout": "PT30S"}, "outputFileName": "a.csv",
            "maxConcurrencyPerInstance": 2, "loggingLevel": "info", "properties": {}, "name": null,
        }});
        let set = [
            ("resources.instance_count", "1"),
            ("settings.error_threshold", "-1"),
            ("settings.logging_level", "info"),
            ("settings.max_concurrency_per_instance", "2"),
            ("settings.mini_batch_size", "5"),
            ("settings.output_file_name", "a.csv"),
            ("settings.retry_settings.max_retries", "3"),
            ("settings.retry_settings.timeout", "PT30S"),
        ];
        let set: BTreeMap<_, _> = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let expected = JobRequest { input: InputSpec::Path("/data/a b".into()), output: None, deployment: None, set };
        assert_eq!(asked(written), Ok(expected.clone()));
        assert_eq!(asked(sent), Ok(expected));
    }

    #[test]
    fn places_of_inputs_are_told_apart() {
        for (uri, expected) in [
            ("scorehost:uploads/upload-1", Some(InputSpec::Upload("upload-1".into()))),
            ("/data", Some(InputSpec::Path("/data".into()))),
            ("file:///data/%C3%BC", Some(InputSpec::Path("/data/ü".into()))),
            ("file://localhost/data", Some(InputSpec::Path("/data".into()))),
            ("file://elsewhere/data", None),
            ("file:///data/%zz", None),
            ("file:///data/%c", None),
            ("file:///%ff", None),
            ("file://", None),
            ("data", None),
            ("", None),
            ("azureml:pictures@latest", None),
            ("azureml://datastores/a/paths/b", None),
            ("s3://bucket/a", Some(InputSpec::Url("s3://bucket/a".parse().unwrap()))),
        ] {
            let body = json!({"properties": {"inputData": {"a": {"jobInputType": "urifile", "uri": uri}}}});
            assert_eq!(asked(body).ok().map(|wish| wish.input), expected, "{uri}");
        }
    }

    #[test]
    fn what_is_not_done_is_refused_by_its_name() {
        let fine = json!({"inputData": {"a": {"jobInputType": "UriFolder", "uri": "/data"}}});
        for (more, named) in [
            (json!({"outputData": {"score": {"jobOutputType": "UriFile", "uri": "azureml://x"}}}), "`outputData`"),
            (
                json!({"outputData": {"a": {"uri": "s3://a/b"}, "b": {"uri": "s3://a/c"}}}),
                "`outputData` names several places",
            ),
            (json!({"outputDataset": {"datastoreId": "a", "path": "b"}}), "`outputDataset`"),
            (json!({"partitionKeys": ["a"]}), "`partitionKeys`"),
            (json!({"dataset": "a"}), "`dataset`"),
            (json!({"name": "a"}), "`name`"),
            (json!({"tags": {"a": "b"}}), "`tags`"),
            (json!({"retrySettings": {"timeout": "P1D"}}), "timeout `P1D`"),
            (json!({"miniBatchSise": 1}), "`miniBatchSise`"),
            (json!({"MiniBatchSize": 1, "miniBatchSize": 2}), "`miniBatchSize` twice"),
            (json!({"retrySettings": [1]}), "`retrySettings` is a list"),
            (json!({"inputData": {"a": ["UriFolder", "/data"]}}), "`a` is not an object"),
            (json!({"inputData": {}}), "`inputData`"),
            (json!({"inputData": {"a": {"jobInputType": "Literal", "value": 1}}}), "`Literal`"),
            (json!({"inputData": {"a": {"jobInputType": "UriFolder"}}}), "no `uri`"),
            (json!({"inputData": {"a": {"jobInputType": "MLTable", "uri": "/data"}}}), "`MLTable`"),
        ] {
            let mut job = fine.clone();
            job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let refused = asked(json!({"properties": job})).unwrap_err();
            assert!(refused.contains(named), "{named}: {refused}");
        }
        for body in [json!(1), json!({}), json!({"properties": []}), json!([])] {
            assert!(asked(body.clone()).is_err(), "{body}");
        }
    }
}
