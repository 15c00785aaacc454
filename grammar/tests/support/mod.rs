//! What the tests of the language share: ops to check against, trees and programs as text, and what
//! holds for every text.

pub(crate) mod dump;
pub(crate) mod sound;
pub(crate) mod toy;
