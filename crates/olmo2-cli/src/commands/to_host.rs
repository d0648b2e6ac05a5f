//! Values of a device's tensor.

use burn::prelude::*;

use crate::messages::{Failure, Result};

/// The values of a tensor in f32, row by row.
///
/// # Errors
/// The device failed.
pub(super) fn to_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec()
        .map_err(|error| Failure::message(format!("cannot read values from the device: {error:?}")))
}
