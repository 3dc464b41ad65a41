//! A model's outputs → columns of rows.
//!
//! Either the most likely class of the one output that has a number for each class, with its probability, or every
//! number of every output: decided once, from shapes and the tag `predictions`. Only whether a row of scores is
//! probabilities already is asked of its numbers, row by row, so that it does not depend on the rows beside it.

use super::BuiltInError;
use super::labels::Labels;
use super::signature::Output;
use super::tags::Kind;
use crate::row::{Cells, Column};
use crate::tensor::Tensor;

/// Rows have no more columns.
const MAX_COLUMNS: usize = 4000;

/// How outputs become columns.
#[derive(Clone, Debug)]
pub(super) struct Prediction {
    outputs: Vec<Output>,
    /// The place, in `outputs`, of the one whose classes are told, and their names.
    class: Option<(usize, Option<Labels>)>,
}

impl Prediction {
    /// Decides what is told of `outputs`: what is asked for, else `unasked` where that is possible.
    ///
    /// # Errors
    /// If classes are asked for and there are none, if there are more numbers than columns, or labels are not one for
    /// each class.
    pub(super) fn new(
        outputs: &[Output],
        asked: Option<Kind>,
        unasked: Kind,
        labels: Option<Labels>,
    ) -> Result<Self, BuiltInError> {
        let outputs = outputs.to_vec();
        let has_classes = |output: &Output| width(&output.port.shape).is_none_or(|classes| classes > 1);
        let position = outputs.iter().position(has_classes);
        let class = match (asked, position) {
            (Some(Kind::Class), None) => {
                let text = "the tag `predictions` asks for classes, and the model gives one number a row";
                return Err(BuiltInError::Outputs(text.into()));
            }
            (Some(Kind::Class), Some(at)) => Some((at, labels)),
            (None, Some(at)) if unasked == Kind::Class && outputs.len() == 1 && outputs[at].names.is_none() => {
                Some((at, labels))
            }
            _ => None,
        };
        if let Some((at, Some(labels))) = &class
            && let Some(classes) = width(&outputs[*at].port.shape)
        {
            labels.check(classes)?;
        }
        let numbers = outputs.iter().filter_map(|output| width(&output.port.shape)).fold(0, usize::saturating_add);
        if class.is_none() && numbers > MAX_COLUMNS {
            let text = format!("the model gives {numbers} numbers a row; at most {MAX_COLUMNS} become columns");
            return Err(BuiltInError::Outputs(text));
        }
        Ok(Self { outputs, class })
    }

    /// The columns, in words.
    pub(super) fn describe(&self) -> String {
        match &self.class {
            Some((_, None)) => "`class`, `probability`".to_owned(),
            Some((_, Some(labels))) => {
                let file = labels.path.file_name().unwrap_or_default().to_string_lossy();
                format!("`class`, `probability`, `label` (from {file})")
            }
            None => self.outputs.iter().map(|o| self.value_text(o)).collect::<Vec<_>>().join(", "),
        }
    }

    fn value_text(&self, output: &Output) -> String {
        match (&output.names, width(&output.port.shape)) {
            (Some(names), _) => format!("`{}`", names.join("`, `")),
            (None, Some(1)) => format!("`{}`", output.port.name),
            (None, Some(n)) => format!("`{0}.0` to `{0}.{1}`", output.port.name, n.saturating_sub(1)),
            (None, None) => format!("the numbers of `{}`", output.port.name),
        }
    }

    /// The columns for the first `rows` rows of the model's `outputs`.
    ///
    /// # Errors
    /// If the model gave fewer rows or other sizes than it said.
    pub(super) fn columns(&self, outputs: &[Tensor], rows: usize) -> Result<Vec<Column>, String> {
        let of = |output: &Output| {
            let tensor = outputs.get(output.index).ok_or("the model gave too few outputs")?;
            let name = &output.port.name;
            let few = |_| format!("the model gave {} rows of `{name}` for {rows}", tensor.rows());
            tensor.slice(0, rows).map_err(few)
        };
        match &self.class {
            Some((at, labels)) => {
                let output = &self.outputs[*at];
                best(&of(output)?, labels.as_ref()).map_err(|e| format!("output `{}`: {e}", output.port.name))
            }
            None => {
                let mut columns = Vec::new();
                for output in &self.outputs {
                    spread(&of(output)?, output, &mut columns)?;
                }
                Ok(columns)
            }
        }
    }
}

/// How many numbers there are for each row; none where that is open, and one where there is no dimension but the rows.
fn width(shape: &[Option<usize>]) -> Option<usize> {
    match shape {
        // The graph says nothing of it.
        [] => None,
        [_, rest @ ..] => rest.iter().copied().try_fold(1usize, |all, n| all.checked_mul(n?)),
    }
}

/// What rounding may leave of a sum of 1.
const ROUNDING: f64 = 1e-3;

/// Whether a row is probabilities already, as that of a model which ends in a softmax.
fn is_distribution(row: &[f32]) -> bool {
    let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
    row.iter().all(|&p| p >= 0.0) && (sum - 1.0).abs() <= ROUNDING
}

/// Class, probability, and label where there are labels.
fn best(tensor: &Tensor, labels: Option<&Labels>) -> Result<Vec<Column>, String> {
    let (rows, classes) = (tensor.rows(), tensor.len() / tensor.rows().max(1));
    if classes < 2 {
        return Err("one number a row, which is no class; the tag `predictions: values` takes it as it is".into());
    }
    if let Some(labels) = labels {
        // A graph may leave open how many classes there are, until now.
        labels.check(classes).map_err(|e| e.to_string())?;
    }
    let flat = Tensor::from_f32(vec![rows, classes], tensor.to_f32()).map_err(|e| e.to_string())?;
    let is_ready: Vec<_> = flat.f32().unwrap_or_default().chunks(classes).map(is_distribution).collect();
    let made = if is_ready.iter().all(|&ready| ready) { flat.clone() } else { flat.softmax() };
    let (mut class, mut probability, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for ((is_ready, given), made) in is_ready.into_iter().zip(flat.top(1)).zip(made.top(1)) {
        let Some(&(index, p)) = if is_ready { given } else { made }.first() else { return Err("no classes".into()) };
        class.push(i64::try_from(index).map_err(|e| e.to_string())?);
        probability.push(shortest(p));
        if let Some(labels) = labels {
            names.push(labels.names[index].clone());
        }
    }
    let column = |name: &str, cells| Column { name: name.into(), cells, nulls: Vec::new() };
    let mut columns = vec![column("class", Cells::Integers(class)), column("probability", Cells::Numbers(probability))];
    if labels.is_some() {
        columns.push(column("label", Cells::Texts(names)));
    }
    Ok(columns)
}

/// A column for each number of a row.
fn spread(tensor: &Tensor, output: &Output, columns: &mut Vec<Column>) -> Result<(), String> {
    let width = tensor.len() / tensor.rows().max(1);
    if columns.len() + width > MAX_COLUMNS {
        return Err(format!("more than {MAX_COLUMNS} numbers a row, which is more than become columns"));
    }
    if let Some(names) = &output.names
        && names.len() != width
    {
        return Err(format!("{width} numbers a row, where the signature names {}", names.len()));
    }
    for at in 0..width {
        let name = match &output.names {
            Some(names) => names[at].clone(),
            None if width == 1 => output.port.name.clone(),
            None => format!("{}.{at}", output.port.name),
        };
        let cells = match (tensor.i64(), tensor.u8(), tensor.f32()) {
            (Some(all), ..) => Cells::Integers(every(all, at, width).collect()),
            (_, Some(all), _) => Cells::Integers(every(all, at, width).map(i64::from).collect()),
            (.., all) => Cells::Numbers(every(all.unwrap_or_default(), at, width).map(shortest).collect()),
        };
        columns.push(Column { name, cells, nulls: Vec::new() });
    }
    Ok(())
}

fn every<T: Copy>(all: &[T], at: usize, width: usize) -> impl Iterator<Item = T> {
    all.iter().skip(at).step_by(width.max(1)).copied()
}

/// The double whose shortest decimal form is the float's, so that 0.1 is written `0.1`, as scripts have it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Port;
    use crate::tensor::Element;

    fn output(name: &str, shape: &[Option<usize>]) -> Output {
        Output { index: 0, port: Port { name: name.into(), shape: shape.to_vec(), element: Element::F32 }, names: None }
    }

    fn labels(names: &[&str]) -> Labels {
        Labels { path: "labels.txt".into(), names: names.iter().map(|&n| n.to_owned()).collect() }
    }

    fn floats(shape: &[usize], numbers: &[f32]) -> Tensor {
        Tensor::from_f32(shape.to_vec(), numbers.to_vec()).unwrap()
    }

    #[test]
    fn logits_become_probabilities_and_probabilities_stay() {
        let prediction =
            Prediction::new(&[output("y", &[None, Some(2)])], None, Kind::Class, Some(labels(&["no", "yes"]))).unwrap();
        let columns = |numbers| prediction.columns(&[floats(&[2, 2], numbers)], 2).unwrap();
        let ready = columns(&[0.1, 0.9, 0.6, 0.4]);
        assert_eq!(ready[0].cells, Cells::Integers(vec![1, 0]));
        assert_eq!(ready[1].cells, Cells::Numbers(vec![0.9, 0.6]));
        assert_eq!(ready[2].cells, Cells::Texts(vec!["yes".into(), "no".into()]));
        let Cells::Numbers(made) = &columns(&[0.0, 0.0, 0.0, -1000.0])[1].cells else { panic!() };
        assert_eq!(made, &[0.5, 1.0]);
        // Rows that only fill a fixed batch are left out.
        assert_eq!(prediction.columns(&[floats(&[2, 2], &[1.0, 0.0, 0.0, 1.0])], 1).unwrap()[0].cells.len(), 1);
        assert!(prediction.columns(&[floats(&[1, 2], &[1.0, 0.0])], 2).unwrap_err().contains("1 rows of `y` for 2"));
    }

    #[test]
    fn values_are_columns_by_name_and_place() {
        let names = |columns: Vec<Column>| columns.into_iter().map(|c| c.name).collect::<Vec<_>>();
        let outputs = [output("y", &[None, Some(2)])];
        let prediction = Prediction::new(&outputs, Some(Kind::Values), Kind::Class, None).unwrap();
        assert_eq!(prediction.describe(), "`y.0` to `y.1`");
        assert_eq!(names(prediction.columns(&[floats(&[1, 2], &[1.0, 2.0])], 1).unwrap()), ["y.0", "y.1"]);
        let one = Prediction::new(&[output("price", &[None, Some(1)])], None, Kind::Class, None).unwrap();
        let columns = one.columns(&[floats(&[2, 1], &[0.1, 2.0])], 2).unwrap();
        assert_eq!(columns[0].cells, Cells::Numbers(vec![0.1, 2.0]));
        assert_eq!(names(columns), ["price"]);
        let named = Output { names: Some(vec!["a".into(), "b".into()]), ..outputs[0].clone() };
        let named = Prediction::new(&[named], None, Kind::Class, None).unwrap();
        assert_eq!(names(named.columns(&[floats(&[1, 2], &[1.0, 2.0])], 1).unwrap()), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let message = |outputs: &[Output], kind, labels| {
            Prediction::new(outputs, kind, Kind::Class, labels).unwrap_err().to_string()
        };
        let one = [output("y", &[None, Some(1)])];
        assert!(message(&one, Some(Kind::Class), None).contains("one number a row"));
        let many = [output("y", &[None, Some(5000)])];
        assert!(message(&many, Some(Kind::Values), None).contains("5000 numbers a row"));
        let ten = [output("y", &[None, Some(10)])];
        assert!(message(&ten, None, Some(labels(&["a"]))).contains("1 names for 10 classes"));
        // A graph that does not say how many numbers it gives is found out when it runs.
        let open = Prediction::new(&[output("y", &[])], None, Kind::Class, None).unwrap();
        assert!(open.columns(&[floats(&[1, 1], &[1.0])], 1).unwrap_err().contains("predictions: values"));
        // So are labels that are more or fewer than the classes, whichever class is the most likely one.
        for (names, expected) in [(vec!["a"; 3], "3 names for 2 classes"), (vec!["a"], "1 names for 2 classes")] {
            let open = Prediction::new(&[output("y", &[None, None])], None, Kind::Class, Some(labels(&names))).unwrap();
            let error = open.columns(&[floats(&[1, 2], &[1.0, 0.0])], 1).unwrap_err();
            assert!(error.contains("labels `labels.txt`") && error.contains(expected), "{error}");
        }
    }
}
