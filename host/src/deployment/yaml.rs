//! YAML text → a tree that knows its lines.
//!
//! What goes in is a stranger's text: its nodes, depth and aliases are bounded before anything is built from it.
//! Scalars stay text; what they mean is decided in [`super::value`], by the key they are written for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{Place, SpecError};

/// A hundred times the longest real deployment.
const MAX_FILE: u64 = 1 << 20;
/// Ten times what the longest real deployment has, aliases counted each time they are used.
const MAX_NODES: usize = 10_000;
/// Real ones nest four deep; the bound keeps recursion over the tree off the stack's end.
const MAX_DEPTH: usize = 32;

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// Text as written, and whether it was written without quotes, so that `null` is not `"null"`.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) plain: bool,
}

impl Scalar {
    /// Whether this is YAML's null.
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// One key of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// A list or map whose end has not been seen.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, usize)>,
}

struct Builder<'p> {
    path: &'p Path,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

/// The text of the file at `path`.
///
/// # Errors
/// If it cannot be read, is over 1 MiB, or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, SpecError> {
    let fail = |source| SpecError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(SpecError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        let place = Place::Line { path: path.to_owned(), line };
        SpecError::Syntax { place, reason: "not UTF-8 text".to_owned() }
    })
}

/// The one document in `text`.
///
/// # Errors
/// If it is over 1 MiB, is not YAML, holds no document or several, repeats a key, or is deeper or larger than the bounds.
pub(super) fn parse(text: &str, path: &Path) -> Result<Node, SpecError> {
    if text.len() as u64 > MAX_FILE {
        return Err(SpecError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut builder = Builder { path, open: Vec::new(), anchors: BTreeMap::new(), root: None, nodes: 0, documents: 0 };
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| builder.fail(error.marker().line(), format!("not YAML: {}", error.info())))?;
        builder.take(event, span.start.line())?;
    }
    builder.root.take().ok_or_else(|| builder.fail(1, "the file is empty".to_owned()))
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), SpecError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                let several = self.documents > 1;
                if several { Err(self.fail(line, "a second document begins here".to_owned())) } else { Ok(()) }
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.fail(line, "an alias inside what it names".to_owned()))?;
                self.count(line, size(&node))?;
                if self.open.len() + height(&node) > MAX_DEPTH {
                    return Err(self.too_deep(line));
                }
                self.place(node, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(line, 1)?;
                let plain = style == ScalarStyle::Plain && self.plain_by_tag(tag.as_deref(), line)?;
                self.place(Node { line, value: Value::Scalar(Scalar { text: text.into_owned(), plain }) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.begin(Value::List(Vec::new()), anchor, tag.as_deref(), line),
            Event::MappingStart(anchor, tag) => self.begin(Value::Map(Vec::new()), anchor, tag.as_deref(), line),
            Event::SequenceEnd | Event::MappingEnd => {
                let done = self.open.pop().expect("the parser balances starts and ends; this is a bug");
                self.place(done.node, done.anchor)
            }
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, line: usize) -> Result<(), SpecError> {
        self.count(line, 1)?;
        self.plain_by_tag(tag, line)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(line));
        }
        self.open.push(Open { node: Node { line, value }, anchor, key: None });
        Ok(())
    }

    /// Puts a finished node where it belongs: into the innermost open list or map, or at the root.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), SpecError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, line))) => entries.push(Entry { key, line, value: node }),
            (Value::Map(entries), None) => {
                let Value::Scalar(scalar) = node.value else {
                    return Err(self.fail(node.line, "a key that is a list or a map".to_owned()));
                };
                if let Some(first) = entries.iter().find(|entry| entry.key == scalar.text) {
                    let first = Place::Line { path: self.path.to_owned(), line: first.line };
                    let place = Place::Line { path: self.path.to_owned(), line: node.line };
                    return Err(SpecError::Duplicate { place, key: scalar.text, first });
                }
                open.key = Some((scalar.text, node.line));
            }
            (Value::Scalar(_), _) => unreachable!("only lists and maps are opened; this is a bug"),
        }
        Ok(())
    }

    /// Whether a tag leaves a scalar's meaning to its text; `!!str` makes it text, and unknown ones are refused.
    fn plain_by_tag(&self, tag: Option<&Tag>, line: usize) -> Result<bool, SpecError> {
        let Some(tag) = tag else { return Ok(true) };
        match tag.suffix.as_str() {
            "str" if tag.is_yaml_core_schema() => Ok(false),
            "int" | "float" | "bool" | "null" | "map" | "seq" if tag.is_yaml_core_schema() => Ok(true),
            _ => Err(self.fail(line, format!("the tag `{tag}` means nothing here"))),
        }
    }

    fn count(&mut self, line: usize, more: usize) -> Result<(), SpecError> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(self.fail(line, format!("more than {MAX_NODES} values, aliases counted at each use")));
        }
        Ok(())
    }

    fn too_deep(&self, line: usize) -> SpecError {
        self.fail(line, format!("nested deeper than {MAX_DEPTH} levels"))
    }

    fn fail(&self, line: usize, reason: String) -> SpecError {
        SpecError::Syntax { place: Place::Line { path: self.path.to_owned(), line }, reason }
    }
}

fn children(node: &Node) -> Box<dyn Iterator<Item = &Node> + '_> {
    match &node.value {
        Value::Scalar(_) => Box::new(std::iter::empty()),
        Value::List(items) => Box::new(items.iter()),
        Value::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
    }
}

fn size(node: &Node) -> usize {
    1 + children(node).map(size).sum::<usize>()
}

fn height(node: &Node) -> usize {
    1 + children(node).map(height).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("d.yml")).expect_err(text).to_string()
    }

    #[test]
    fn lines_and_quotes_are_kept() {
        let root = parse("\u{feff}# a comment\na: 1\nb:\n  - \"1\"\n  - !!str 2\n", Path::new("d.yml")).unwrap();
        let Value::Map(entries) = &root.value else { panic!("{root:?}") };
        assert_eq!((entries[0].line, entries[1].line), (2, 3));
        let Value::List(items) = &entries[1].value.value else { panic!("{root:?}") };
        let plain: Vec<_> = items.iter().map(|n| (n.line, matches!(&n.value, Value::Scalar(s) if s.plain))).collect();
        assert_eq!(plain, [(4, false), (5, false)]);
    }

    #[test]
    fn an_alias_is_what_it_names() {
        let root = parse("a: &x {k: v}\nb: *x\n", Path::new("d.yml")).unwrap();
        assert_eq!(size(&root), 5);
    }

    #[test]
    fn hostile_texts_are_refused_with_their_line() {
        let bomb = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
            let alias = format!("*a{}", i - 1);
            text + &format!("a{i}: &a{i} [{}]\n", vec![alias; 10].join(", "))
        });
        let tower = (1..200).fold("a0: &a0 [x]\n".to_owned(), |t, i| t + &format!("a{i}: &a{i} [*a{}]\n", i - 1));
        let flow = "[".repeat(100_000);
        let block: String = (0..200).map(|i| format!("{}k:\n", " ".repeat(i))).collect();
        let wide = "- x\n".repeat(20_000);
        for (text, expected) in [
            (bomb.as_str(), "more than 10000 values"),
            (&tower, "nested deeper than 32"),
            (&flow, "line 1"),
            (&block, "nested deeper than 32"),
            (&wide, "more than 10000 values"),
            ("", "line 1: the file is empty"),
            ("# only a comment\n", "the file is empty"),
            ("a: 1\n---\nb: 2\n", "line 2: a second document"),
            ("a: 1\nb: 2\na: 3\n", "line 3: `a` is already written at `d.yml` line 1"),
            ("a: [1, 2\nb: 3\n", "not YAML"),
            ("[a]: 1\n", "a key that is a list"),
            ("a: *nothing\n", "not YAML"),
            ("a: &x [*x]\n", "alias inside"),
            ("a: !python/object 1\n", "the tag"),
            ("a: b: c\n", "not YAML"),
            ("a:\tb\n\tc: d\n", "not YAML"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn no_text_panics() {
        // A linear congruential walk over the characters that YAML gives a meaning to.
        let alphabet: Vec<char> = "a1 \n\t:-[]{}#&*!|>'\"%@`?,~\\\u{0}\u{feff}é".chars().collect();
        let mut state = 1u64;
        for _ in 0..5_000 {
            let text: String = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            // Either answer will do; the test is that there is one.
            let _ = parse(&text, Path::new("d.yml"));
        }
    }
}
