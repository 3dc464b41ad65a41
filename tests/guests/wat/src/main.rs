//! WebAssembly's text on standard input → the component that it describes, on standard output. The guests of this
//! folder are such texts, and tests make others.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string());
    let component = read.and_then(|_| wat::parse_str(&text).map_err(|e| e.to_string()));
    match component.and_then(|bytes| std::io::stdout().write_all(&bytes).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
