//! How the engine behaves, shown with toy ops whose calls are counted.

mod explaining;
mod exports;
mod failures;
mod maps;
mod reuse;
mod toy;
mod training;
mod world;
