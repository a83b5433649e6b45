//! Parse, run, report.

use std::process::ExitCode;

fn main() -> ExitCode {
    lead_intake::cli::main()
}
