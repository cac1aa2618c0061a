//! `host-supervise SPEC`: the supervisor by itself, for the tests; `ferrostack supervise` is the same in the product.

fn main() -> Result<(), host::Error> {
    let spec = std::env::args_os().nth(1).unwrap_or_default();
    host::supervisor::run(std::path::Path::new(&spec))
}
