//! burn-flex: the CPU kernels of `olmo2-kernels`, on the slices that its tensors hold.

mod attention;
mod matmul;
mod norm;

pub(crate) use attention::attend;
pub(crate) use matmul::{int_zeros, project, project_gated, reads_in_place, zeros};
pub(crate) use norm::{norm_rotate, rms_norm};
