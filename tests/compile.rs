//! Components that are made to harm the compiler: refused within their limits, while everything else goes on.

use std::time::{Duration, Instant};

use scorehost::child::ChildLimits;
use scorehost::fault::Fault;
use scorehost::script::{CompileCache, Compiler, Engine, Script, ScriptError};
use wasm_encoder::{
    BlockType, CodeSection, Component, Function, FunctionSection, Instruction, Module, ModuleSection, TypeSection,
    ValType,
};

use crate::support::{Place, scorehost, scripts};

const GENEROUS: ChildLimits = ChildLimits { seconds: 120, mib: 4096 };

/// A component that holds a module of these functions, and does nothing with it.
fn component(bodies: impl Iterator<Item = Function>) -> Vec<u8> {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    for body in bodies {
        functions.function(0);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    wrapped(&module)
}

fn wrapped(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// Blocks in blocks, each with a jump to any of those around it, which all set some of many locals: more to allocate
/// registers for than any compiler does in a moment.
fn tangle(depth: u32, locals: u32) -> Function {
    let mut body = Function::new([(locals, ValType::I64)]);
    for _ in 0..depth {
        body.instruction(&Instruction::Block(BlockType::Empty));
    }
    for level in 0..depth {
        for step in 0..8 {
            let local = 1 + (level * 7 + step * 13) % locals;
            body.instruction(&Instruction::LocalGet(local));
            body.instruction(&Instruction::LocalGet(1 + (local * 3) % locals));
            body.instruction(&Instruction::I64Add);
            body.instruction(&Instruction::LocalSet(1 + (local * 5) % locals));
        }
        let targets: Vec<u32> = (0..depth - level).collect();
        body.instruction(&Instruction::LocalGet(0));
        body.instruction(&Instruction::BrTable((&targets).into(), 0));
        body.instruction(&Instruction::End);
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    body
}

fn compile(program: &str, limits: ChildLimits, wasm: &[u8]) -> Result<Script, ScriptError> {
    let compiler = Compiler::child(program.into(), limits);
    Script::compile(&Engine::new().unwrap(), &CompileCache::none(compiler), wasm)
}

/// The component is refused by the command's own compiler; with its text and the time it took.
fn refused(limits: ChildLimits, wasm: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let error = compile(env!("CARGO_BIN_EXE_scorehost"), limits, wasm).err().unwrap();
    assert_eq!((error.fault(), error.kind()), (Fault::Caller, "refused"), "{error}");
    (error.to_string(), began.elapsed())
}

#[test]
fn a_component_that_compiles_for_long_is_stopped_in_time() {
    let bomb = component((0..64).map(|_| tangle(400, 4000)));
    let (text, took) = refused(ChildLimits { seconds: 1, mib: 4096 }, &bomb);
    assert!(
        text.starts_with("the script does not compile within 1 s and 4096 MiB of memory: the compiler was stopped"),
        "{text}"
    );
    assert!(text.contains("\nhint: ") && text.contains("SCOREHOST_COMPILE_SECONDS"), "{text}");
    // Starting and killing a process takes a moment where others compute.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_component_that_takes_much_memory_ends_its_compiler_and_nothing_else() {
    let bomb = component((0..256).map(|_| tangle(400, 4000)));
    let (text, _) = refused(ChildLimits { seconds: 120, mib: 160 }, &bomb);
    assert!(text.starts_with("the script does not compile within 120 s and 160 MiB of memory: the compiler"), "{text}");
}

#[test]
fn too_many_types_are_refused_and_a_million_nested_blocks_do_no_harm() {
    let mut types = TypeSection::new();
    (0..1_000_001).for_each(|_| types.ty().function([], []));
    let mut many = Module::new();
    many.section(&types);
    let (text, took) = refused(GENEROUS, &wrapped(&many));
    assert!(text.contains("types count"), "{text}");
    assert!(took < Duration::from_secs(60), "{took:?}");

    let mut deep = Function::new([]);
    for instruction in [Instruction::Block(BlockType::Empty), Instruction::End] {
        for _ in 0..1_000_000 {
            deep.instruction(&instruction);
        }
    }
    deep.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    let (text, took) = refused(GENEROUS, &component(std::iter::once(deep)));
    assert!(text.starts_with("the component is not a scoring script"), "{text}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn what_the_compiler_finds_wrong_comes_back_as_text() {
    let mut wrong = Function::new([]);
    wrong.instruction(&Instruction::I64Const(1)).instruction(&Instruction::End);
    let (text, _) = refused(GENEROUS, &component(std::iter::once(wrong)));
    assert!(text.starts_with("the script does not compile: ") && text.contains("type mismatch"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_program_that_is_no_compiler_is_the_hosts_fault() {
    for (program, text) in [("false", "exit status: 1"), ("true", "0 bytes of code"), ("echo", "does not open")] {
        let error = compile(program, GENEROUS, &Component::new().finish()).err().unwrap();
        assert!(error.fault() == Fault::Host && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_job_runs_beside_a_compilation_that_is_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(4);
    place.probe("fine", &["mini_batch_size: 1"]);
    let bomb = place.at("bomb.wasm");
    std::fs::write(&bomb, component((0..64).map(|_| tangle(400, 4000)))).unwrap();
    let mut check = scorehost();
    check.arg("check").arg(&bomb).env("SCOREHOST_COMPILE_SECONDS", "2");
    let check = std::thread::spawn(move || check.output().unwrap());
    let ran = place.run(&[]).completed();
    assert_eq!(ran.record()["counts"]["failed"], 0);
    let refused = check.join().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("does not compile within 2 s") && text.contains("\nhint: "), "{text}");
}
