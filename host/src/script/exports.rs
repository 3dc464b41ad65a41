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
    let parameters: Vec<_> = func.params().map(|(_, ty)| shown(&ty, 0)).collect();
    let results: Vec<_> = func.results().map(|ty| format!(" -> {}", shown(&ty, 0))).collect();
    format!("func({}){}", parameters.join(", "), results.concat())
}

/// Longer than the contract's longest, and short enough to be read.
const MAX_SHOWN_BYTES: usize = 500;

/// Deeper than the contract's types, and shallow enough that a refusal stays readable.
const MAX_DEPTH: usize = 6;

/// A type as WIT writes it, its name left out.
fn shown(ty: &Type, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "…".to_owned();
    }
    let inner = |ty: &Type| shown(ty, depth + 1);
    let or_nothing = |ty: Option<Type>| ty.map_or_else(|| "_".to_owned(), |ty| inner(&ty));
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::String => "string".to_owned(),
        Type::List(list) => format!("list<{}>", inner(&list.ty())),
        Type::Record(record) => {
            let fields = record.fields().take(MAX_PARTS).map(|field| format!("{}: {}", field.name, inner(&field.ty)));
            format!("record{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Type::Variant(variant) => {
            let case = |name: &str, ty: Option<Type>| match ty {
                Some(ty) => format!("{name}({})", inner(&ty)),
                None => name.to_owned(),
            };
            let cases = variant.cases().take(MAX_PARTS).map(|part| case(part.name, part.ty));
            format!("variant{{{}}}", cases.collect::<Vec<_>>().join(", "))
        }
        Type::Result(result) => format!("result<{}, {}>", or_nothing(result.ok()), or_nothing(result.err())),
        _ => "another type".to_owned(),
    }
}

/// Fields or cases that are shown: more than any of the contract's types has.
const MAX_PARTS: usize = 8;
