use std::process::ExitCode;

fn main() -> ExitCode {
    zonal::cli::main()
}
