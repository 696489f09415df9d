//! The `npmguard` command: find out as what it was started, dispatch, end.

use std::ffi::OsString;
use std::process::exit;

use npmguard::launch::{datagrams, reaper, spawn, stub};

fn main() {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if stub::is_stub(arguments.first()) {
        exit(stub::main(arguments));
    }
    if arguments.len() == 2 && arguments[1] == spawn::REAPER_ARGUMENT {
        arguments.clear();
        exit(reaper::main().into());
    }
    if arguments.len() == 2 && arguments[1] == datagrams::ARGUMENT {
        exit(datagrams::main().into());
    }
    exit(npmguard::cli::main());
}
