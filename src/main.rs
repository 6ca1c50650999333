fn main() -> std::process::ExitCode {
    eqprop_cuda::cli::main()
}
