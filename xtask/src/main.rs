//! Set-up, demo, test, lab, codegen, tidy, bench, image and ci: what is done to the project rather than by it.
fn main() {}
