//! What the tests share: toy ops, trees and programs as text, and invariants of every text.

pub(crate) mod dump;
pub(crate) mod invariants;
pub(crate) mod toy;
