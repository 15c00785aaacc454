//! libtorch as stages use it: the lock under which they compute and the device they compute on, or
//! why there is none.

use std::sync::MutexGuard;

use blip_engine::OpError;
use blip_model::device::{self, OpenError};
use tch::Device;

/// Waits until no other stage computes: see [`device::lock`].
pub(crate) fn lock_device() -> Result<MutexGuard<'static, ()>, OpError> {
    device::lock().map_err(failed)
}

/// The device that models run on: see [`device::best`].
pub(crate) fn best_device() -> Result<Device, OpError> {
    device::best().map_err(failed)
}

fn failed(error: OpenError) -> OpError {
    OpError::failed(error.what, error.help)
}
