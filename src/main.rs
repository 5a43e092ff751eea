use std::process::ExitCode;

/// glibc's allocator consolidates its free memory at each large allocation, and each task of a forwarded query is one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zonal::cli::main()
}
