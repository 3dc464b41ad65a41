//! What a model's graph and MLflow's signature say together: what goes in, what comes out, under which names.
//!
//! The graph decides what an engine computes. A signature may name sizes that the graph leaves free, the columns of a
//! table and their order, and which outputs there are; where both speak and differ, it is an error that names both.

use super::BuiltInError;
use crate::deployment::{Field, FieldKind, Mlflow};
use crate::infer::{Port, element_name, shape_text};
use crate::tensor::Element;

/// What goes in and comes out.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The graph's inputs, with the sizes of both.
    pub(super) inputs: Vec<Port>,
    /// The columns that make up the only input, in its order, where the signature names them.
    pub(super) columns: Option<Vec<String>>,
    /// The outputs that become columns.
    pub(super) outputs: Vec<Output>,
}

/// One output.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// Its place among the graph's outputs.
    pub(super) index: usize,
    /// What it is; without a shape where the graph says none.
    pub(super) port: Port,
    /// The names of its numbers, one for each, where the signature has them.
    pub(super) names: Option<Vec<String>>,
}

impl Agreed {
    /// Joins what the graph says with what `mlflow` does.
    ///
    /// # Errors
    /// If they differ.
    pub(super) fn new(inputs: &[Port], outputs: &[Port], mlflow: Option<&Mlflow>) -> Result<Self, BuiltInError> {
        let all = |(index, port): (usize, &Port)| Output { index, port: port.clone(), names: None };
        let outputs = outputs.iter().enumerate().map(all).collect();
        let mut agreed = Self { inputs: inputs.to_vec(), columns: None, outputs };
        let Some((mlflow, signature)) = mlflow.and_then(|m| Some((m, m.signature.as_ref()?))) else {
            return Ok(agreed);
        };
        let differ = |reason| BuiltInError::Signature { path: mlflow.path.clone(), reason };
        if signature.inputs.iter().any(|field| matches!(field.kind, FieldKind::Column(_))) {
            agreed.columns = columns(inputs, &signature.inputs).map_err(differ)?;
        } else if !signature.inputs.is_empty() {
            agreed.inputs = tensors("input", inputs, &signature.inputs).map_err(differ)?;
        }
        if !signature.outputs.is_empty() {
            agreed.outputs = results(&agreed.outputs, &signature.outputs).map_err(differ)?;
        }
        Ok(agreed)
    }
}

/// The graph's inputs, each with the sizes of the signature's tensor of the same name.
fn tensors(what: &str, ports: &[Port], fields: &[Field]) -> Result<Vec<Port>, String> {
    if ports.len() != fields.len() {
        return Err(unlike(what, ports, fields));
    }
    let mut agreed = Vec::with_capacity(ports.len());
    for port in ports {
        let field = match fields {
            // The only one may go by any name: MLflow itself hands it over by its place.
            [only] => only,
            several => {
                let named = several.iter().find(|field| field.name.as_deref() == Some(port.name.as_str()));
                named.ok_or_else(|| unlike(what, ports, fields))?
            }
        };
        let FieldKind::Tensor(element, shape) = &field.kind else { return Err(unlike(what, ports, fields)) };
        if element_of(element) != Some(port.element) {
            return Err(unlike(what, ports, fields));
        }
        let shape = join(&port.shape, shape).ok_or_else(|| unlike(what, ports, fields))?;
        agreed.push(Port { shape, ..port.clone() });
    }
    Ok(agreed)
}

/// The columns that make up the graph's only input; none where each input is a column of its own, of the same name.
fn columns(ports: &[Port], fields: &[Field]) -> Result<Option<Vec<String>>, String> {
    let unlike = || unlike("input", ports, fields);
    let mut named = Vec::with_capacity(fields.len());
    for field in fields {
        let FieldKind::Column(kind) = &field.kind else { return Err(unlike()) };
        let Some(element) = element_of(kind) else { return Err(unlike()) };
        // The only column may go without a name, and then by that of the input.
        let name = field.name.clone().or_else(|| ports.first().map(|port| port.name.clone())).ok_or_else(unlike)?;
        named.push((name, element));
    }
    // Whole numbers can be floats; fractions cannot be whole.
    let fits = |port: &Port, element| port.element == Element::F32 || port.element == element;
    if let [only] = ports {
        let width = only.shape.get(1).copied().unwrap_or(Some(1));
        let is_one = only.shape.len() <= 2 && width.is_none_or(|width| width == named.len());
        let fit = is_one && named.iter().all(|(_, element)| fits(only, *element));
        return if fit { Ok(Some(named.into_iter().map(|(name, _)| name).collect())) } else { Err(unlike()) };
    }
    let of = |port: &Port| named.iter().any(|(name, element)| *name == port.name && fits(port, *element));
    if ports.len() == named.len() && ports.iter().all(of) { Ok(None) } else { Err(unlike()) }
}

/// The outputs that the signature names, in its order. The element types of outputs are not compared: engines know them
/// only once the model has run.
fn results(outputs: &[Output], fields: &[Field]) -> Result<Vec<Output>, String> {
    let ports: Vec<Port> = outputs.iter().map(|output| output.port.clone()).collect();
    let named = |field: &Field| outputs.iter().find(|o| field.name.as_ref().is_none_or(|name| *name == o.port.name));
    let is_one_each = fields.iter().all(|f| f.name.is_some()) || (fields.len() == 1 && outputs.len() == 1);
    if let (true, Some(found)) = (is_one_each, fields.iter().map(named).collect::<Option<Vec<_>>>()) {
        let joined = found.into_iter().zip(fields).map(|(output, field)| {
            let shape = match &field.kind {
                FieldKind::Column(_) => Some(output.port.shape.clone()),
                FieldKind::Tensor(_, shape) if output.port.shape.is_empty() => Some(shape.clone()),
                FieldKind::Tensor(_, shape) => join(&output.port.shape, shape),
            };
            Some(Output { port: Port { shape: shape?, ..output.port.clone() }, ..output.clone() })
        });
        return joined.collect::<Option<_>>().ok_or_else(|| unlike("output", &ports, fields));
    }
    // Columns that are named one by one, where the graph gives them side by side; or one tensor by another name.
    let [output] = outputs else { return Err(unlike("output", &ports, fields)) };
    let width = match output.port.shape.as_slice() {
        [] => None,
        [_, rest @ ..] => rest.iter().copied().product::<Option<usize>>(),
    };
    let columns = fields.iter().map(|field| match &field.kind {
        FieldKind::Column(_) => field.name.clone(),
        FieldKind::Tensor(..) => None,
    });
    match (columns.collect::<Option<Vec<_>>>(), fields) {
        (Some(names), _) if width.is_none_or(|width| width == names.len()) => {
            Ok(vec![Output { names: Some(names), ..output.clone() }])
        }
        (None, [Field { kind: FieldKind::Tensor(_, shape), .. }]) if output.port.shape.is_empty() => {
            Ok(vec![Output { port: Port { shape: shape.clone(), ..output.port.clone() }, ..output.clone() }])
        }
        (None, [Field { kind: FieldKind::Tensor(_, shape), .. }]) => match join(&output.port.shape, shape) {
            Some(shape) => Ok(vec![Output { port: Port { shape, ..output.port.clone() }, ..output.clone() }]),
            None => Err(unlike("output", &ports, fields)),
        },
        _ => Err(unlike("output", &ports, fields)),
    }
}

/// Sizes that both have; none where they differ. A free size takes the other's.
fn join(graph: &[Option<usize>], signature: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let same = |(a, b): (&Option<usize>, &Option<usize>)| match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        (Some(n), _) | (None, Some(n)) => Some(Some(*n)),
        (None, None) => Some(None),
    };
    if graph.len() != signature.len() {
        return None;
    }
    // The first size is that of a batch, which an example in the signature does not decide.
    let mut joined: Vec<_> = graph.iter().zip(signature).skip(1).map(same).collect::<Option<_>>()?;
    joined.splice(0..0, graph.first().copied());
    Some(joined)
}

/// The element that takes the values of numpy's or MLflow's type of this name.
pub(super) fn element_of(name: &str) -> Option<Element> {
    match name {
        "float16" | "float32" | "float64" | "float" | "double" => Some(Element::F32),
        "int8" | "int16" | "int32" | "int64" | "uint16" | "uint32" | "bool" | "integer" | "long" | "boolean" => {
            Some(Element::I64)
        }
        "uint8" => Some(Element::U8),
        _ => None,
    }
}

/// What the one and the other say.
fn unlike(what: &str, ports: &[Port], fields: &[Field]) -> String {
    let limit = 8;
    let list = |names: Vec<String>, all: usize| {
        let more = if all > limit { format!(", and {} more", all - limit) } else { String::new() };
        names.join(", ") + &more
    };
    let graph = ports.iter().take(limit).map(|port| {
        let shape = if port.shape.is_empty() { String::new() } else { format!("{} ", shape_text(&port.shape)) };
        format!("`{}`: {shape}{}", port.name, element_name(port.element))
    });
    let signature = fields.iter().take(limit).map(|field| {
        let name = field.name.as_ref().map_or_else(String::new, |name| format!("`{name}`: "));
        match &field.kind {
            FieldKind::Column(kind) => format!("{name}a column of {kind}"),
            FieldKind::Tensor(element, shape) => format!("{name}{} {element}", shape_text(shape)),
        }
    });
    let (graph, signature) = (list(graph.collect(), ports.len()), list(signature.collect(), fields.len()));
    format!("the signature's {what}s are {signature}; the graph's are {graph}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, shape: &[Option<usize>], element: Element) -> Port {
        Port { name: name.into(), shape: shape.to_vec(), element }
    }

    fn tensor(name: Option<&str>, element: &str, shape: &[Option<usize>]) -> Field {
        Field { name: name.map(str::to_owned), kind: FieldKind::Tensor(element.into(), shape.to_vec()) }
    }

    fn column(name: &str) -> Field {
        Field { name: Some(name.into()), kind: FieldKind::Column("double".into()) }
    }

    #[test]
    fn a_signature_fills_in_what_the_graph_leaves_free() {
        let graph = [port("x", &[None, Some(3), None, None], Element::F32)];
        let signature = tensor(None, "float32", &[Some(1), Some(3), Some(32), Some(24)]);
        let agreed = tensors("input", &graph, &[signature]).unwrap();
        assert_eq!(agreed[0].shape, [None, Some(3), Some(32), Some(24)]);
        // The graph's own batch stays what it is, and doubles are handed over as floats.
        let graph = [port("x", &[Some(1), Some(4)], Element::F32)];
        let agreed = tensors("input", &graph, &[tensor(Some("x"), "float64", &[None, Some(4)])]).unwrap();
        assert_eq!(agreed[0].shape, [Some(1), Some(4)]);
    }

    #[test]
    fn both_are_named_where_they_differ() {
        let graph = [port("x", &[None, Some(3), Some(32), Some(32)], Element::F32)];
        for field in [
            tensor(Some("x"), "float32", &[None, Some(3), Some(64), Some(64)]),
            tensor(Some("x"), "uint8", &[None, Some(3), Some(32), Some(32)]),
            tensor(Some("x"), "float32", &[None, Some(3072)]),
            tensor(Some("x"), "str", &[None, Some(3), Some(32), Some(32)]),
            column("x"),
        ] {
            let error = tensors("input", &graph, &[field]).unwrap_err();
            assert!(error.contains("the graph's are `x`: N×3×32×32 floats"), "{error}");
        }
        let error = tensors("input", &graph, &[column("a"), column("b")]).unwrap_err();
        assert!(error.contains("are `a`: a column of double, `b`: a column of double; the graph's"), "{error}");
    }

    #[test]
    fn columns_make_up_one_input_or_one_each() {
        let names = |names: &[&str]| Ok(Some(names.iter().map(|&n| n.to_owned()).collect()));
        let together = [port("x", &[None, Some(2)], Element::F32)];
        assert_eq!(columns(&together, &[column("b"), column("a")]), names(&["b", "a"]));
        assert!(columns(&together, &[column("a")]).unwrap_err().contains("`x`: N×2 floats"));
        let apart = [port("a", &[None, Some(1)], Element::F32), port("b", &[None, Some(1)], Element::I64)];
        let long = Field { name: Some("b".into()), kind: FieldKind::Column("long".into()) };
        assert_eq!(columns(&apart, &[long.clone(), column("a")]), Ok(None));
        // A fraction is no whole number, a text is neither, and names must be the same.
        let text = Field { name: Some("a".into()), kind: FieldKind::Column("string".into()) };
        for wrong in [[column("a"), column("b")], [text, long.clone()], [long, column("c")]] {
            assert!(columns(&apart, &wrong).unwrap_err().contains("`b`: N×1 integers"), "{wrong:?}");
        }
        // The names of columns do not help a picture model.
        let pictures = [port("x", &[None, Some(3), Some(8), Some(8)], Element::F32)];
        assert!(columns(&pictures, &[column("a")]).is_err());
    }

    #[test]
    fn outputs_are_chosen_and_named() {
        let output = |index, port| Output { index, port, names: None };
        let (label, scores) = (port("label", &[None], Element::I64), port("scores", &[None, Some(2)], Element::F32));
        let both = [output(0, label), output(1, scores)];
        let names = |outputs: Vec<Output>| outputs.into_iter().map(|o| (o.index, o.names)).collect::<Vec<_>>();
        assert_eq!(names(results(&both, &[column("label")]).unwrap()), [(0, None)]);
        let scores = tensor(Some("scores"), "float32", &[None, Some(2)]);
        assert_eq!(names(results(&both, &[scores, column("label")]).unwrap()), [(1, None), (0, None)]);
        let columns = [column("no"), column("yes")];
        let named = names(results(&both[1..], &columns).unwrap());
        assert_eq!(named, [(1, Some(vec!["no".to_owned(), "yes".to_owned()]))]);
        assert_eq!(names(results(&both[1..], &[tensor(None, "float32", &[None, None])]).unwrap()), [(1, None)]);
        for wrong in [vec![column("a")], vec![tensor(Some("a"), "float32", &[None, Some(3)])]] {
            assert!(results(&both[1..], &wrong).unwrap_err().contains("`scores`: N×2 floats"), "{wrong:?}");
        }
        assert!(results(&both, &[tensor(None, "int64", &[None])]).is_err());
    }
}
