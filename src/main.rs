use std::process::ExitCode;

/// The system's allocator gathers what is free whenever something large is wanted, as each task that asks others is.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zonal::cli::main()
}
