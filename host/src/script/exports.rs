//! The types of a component's `init` and `run`, compared with the contract's before anything runs.
//! What goes in: a compiled component. What comes out: nothing, or a refusal that shows both types as WIT writes them.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};

use super::ScriptError;

const INIT: &str = "func() -> result<_, variant{transient(string), permanent(string)}>";

const RUN: &str = "func(list<string>) -> result<record{\
    columns: list<record{name: string, cells: variant{\
        booleans(list<bool>), integers(list<s64>), numbers(list<f64>), texts(list<string>)}, nulls: list<u32>}>, \
    failed: list<record{index: u32, reason: string}>}, variant{transient(string), permanent(string)}>";

/// Refuses a `script` export whose functions are not the contract's.
pub(super) fn check(engine: &wasmtime::Engine, script: &ComponentInstance, contract: &str) -> Result<(), ScriptError> {
    for (name, expected) in [("init", INIT), ("run", RUN)] {
        let export = script.exports(engine).find(|(export, _)| *export == name);
        let found = match export.map(|(_, item)| item.ty) {
            None => "nothing".to_owned(),
            Some(ComponentItem::ComponentFunc(func)) => function(&func),
            Some(_) => "something else than a function".to_owned(),
        };
        if found != expected {
            let found = &found[..found.floor_char_boundary(MAX_SHOWN_BYTES)];
            return Err(ScriptError::Refused(format!(
                "the script exports `{name}` as `{found}`, where contract {contract} has `{expected}`\n\
                 hint: build it against the contract's `wit` folder"
            )));
        }
    }
    Ok(())
}

fn function(func: &ComponentFunc) -> String {
    let mut text = Text(String::new());
    text.add("func(");
    for (index, (_, ty)) in func.params().enumerate() {
        text.separate(index);
        text.show(&ty, 0);
        if text.is_full() {
            break;
        }
    }
    text.add(")");
    if let Some(ty) = func.results().next() {
        text.add(" -> ");
        text.show(&ty, 0);
    }
    text.0
}

/// Longer than the contract's longest, and short enough to be read.
const MAX_SHOWN_BYTES: usize = 500;

/// Deeper than the contract's types, and shallow enough that a refusal stays readable.
const MAX_DEPTH: usize = 6;

/// A type as WIT writes it, its name left out. It grows to little more than is shown, whatever names and numbers of fields
/// a component brings.
struct Text(String);

impl Text {
    fn is_full(&self) -> bool {
        self.0.len() > MAX_SHOWN_BYTES
    }

    fn add(&mut self, text: &str) {
        let room = (MAX_SHOWN_BYTES + 4).saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.add(", ");
        }
    }

    fn show(&mut self, ty: &Type, depth: usize) {
        if self.is_full() {
            return;
        }
        if depth > MAX_DEPTH {
            return self.add("…");
        }
        match ty {
            Type::Bool => self.add("bool"),
            Type::S64 => self.add("s64"),
            Type::U32 => self.add("u32"),
            Type::Float64 => self.add("f64"),
            Type::String => self.add("string"),
            Type::List(list) => {
                self.add("list<");
                self.show(&list.ty(), depth + 1);
                self.add(">");
            }
            Type::Record(record) => {
                self.add("record{");
                for (index, field) in record.fields().take(MAX_PARTS).enumerate() {
                    self.separate(index);
                    self.add(field.name);
                    self.add(": ");
                    self.show(&field.ty, depth + 1);
                }
                self.add("}");
            }
            Type::Variant(variant) => {
                self.add("variant{");
                for (index, case) in variant.cases().take(MAX_PARTS).enumerate() {
                    self.separate(index);
                    self.add(case.name);
                    if let Some(ty) = case.ty {
                        self.add("(");
                        self.show(&ty, depth + 1);
                        self.add(")");
                    }
                }
                self.add("}");
            }
            Type::Result(result) => {
                self.add("result<");
                self.show_or_nothing(result.ok(), depth);
                self.add(", ");
                self.show_or_nothing(result.err(), depth);
                self.add(">");
            }
            _ => self.add("another type"),
        }
    }

    fn show_or_nothing(&mut self, ty: Option<Type>, depth: usize) {
        match ty {
            Some(ty) => self.show(&ty, depth + 1),
            None => self.add("_"),
        }
    }
}

/// Fields or cases that are shown: more than any of the contract's types has.
const MAX_PARTS: usize = 8;
