fn main() -> std::process::ExitCode {
    corelane::cli::main()
}
