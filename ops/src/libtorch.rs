//! libtorch as stages see it: a turn to compute with it and the device to do so on, or why there is
//! none.

use std::sync::MutexGuard;

use blip_engine::OpError;
use blip_model::device::{self, OpenError};
use tch::Device;

/// Waits for this stage's turn to compute: see [`device::exclusive`].
pub(crate) fn turn() -> Result<MutexGuard<'static, ()>, OpError> {
    device::exclusive().map_err(failed)
}

/// The device that models run on: see [`device::best`].
pub(crate) fn best_device() -> Result<Device, OpError> {
    device::best().map_err(failed)
}

fn failed(error: OpenError) -> OpError {
    OpError::failed(error.what, error.help)
}
