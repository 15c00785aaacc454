//! What the tests of the language share: ops to check against, and trees and programs as text.

pub(crate) mod dump;
pub(crate) mod toy;
