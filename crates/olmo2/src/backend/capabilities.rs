//! What a backend can do, as one value.

use burn::prelude::*;
use burn::tensor::DType;

use crate::cache::{CacheDtype, CacheDtypeError, CacheSetup};
use crate::precision::{Precision, PrecisionError};
use crate::storage::StoredFormat;

/// What a backend can do on a device: which types it computes in, and what own kernels read as it
/// is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The backend's name.
    pub(super) backend: String,
    /// Precisions that the backend computes in.
    pub(super) precisions: Vec<Precision>,
    /// What a cache can be stored in.
    pub(super) cache_dtypes: Vec<CacheDtype>,
    /// What this library's own kernels do on it, where they exist.
    pub(super) kernels: Option<Kernels>,
    /// A cache's capacity is rounded up to a multiple of this many positions.
    pub(super) cache_bucket: usize,
}

/// What own kernels do on a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernels {
    /// Precisions in which they do the matmuls of a model.
    pub(super) precisions: &'static [Precision],
    /// Dtype of activations between operations in these precisions.
    pub(super) activations: DType,
    /// Formats of weights that they read in place in these precisions.
    pub(super) formats: &'static [StoredFormat],
    /// Cache types that they read.
    pub(super) cache_dtypes: &'static [CacheDtype],
}

impl Capabilities {
    /// Checks that the backend computes in `precision`.
    ///
    /// # Errors
    /// It does not.
    pub fn check_precision(&self, precision: Precision) -> Result<(), PrecisionError> {
        match self.precisions.contains(&precision) {
            true => Ok(()),
            false => Err(PrecisionError {
                backend: self.backend.clone(),
                precision: precision.name(),
            }),
        }
    }

    /// Checks that the backend has a cache in `dtype`.
    ///
    /// # Errors
    /// It has not.
    pub fn check_cache(&self, dtype: CacheDtype) -> Result<(), CacheDtypeError> {
        match self.cache_dtypes.contains(&dtype) {
            true => Ok(()),
            false => Err(CacheDtypeError {
                backend: self.backend.clone(),
                dtype,
                supported: self.cache_dtypes.clone(),
            }),
        }
    }

    /// Whether own kernels read weights stored in `format` in place when a model computes in
    /// `precision`; blocks then stay packed.
    pub fn reads_in_place(&self, precision: Precision, format: StoredFormat) -> bool {
        self.kernels(precision)
            .is_some_and(|kernels| kernels.formats.contains(&format))
    }

    /// Whether own kernels do the matmuls of a model that computes in `precision`.
    pub fn has_kernels(&self, precision: Precision) -> bool {
        self.kernels(precision).is_some()
    }

    fn kernels(&self, precision: Precision) -> Option<&Kernels> {
        let kernels = self.kernels.as_ref();
        kernels.filter(|kernels| kernels.precisions.contains(&precision))
    }

    /// The dtype of activations between operations, and of an f32 cache.
    pub fn activations(&self, precision: Precision) -> DType {
        self.kernels(precision)
            .map_or(precision.compute(), |kernels| kernels.activations)
    }

    /// The dtype in which floats stored as `stored` lie in memory.
    pub(crate) fn stored_dtype(&self, precision: Precision, stored: DType) -> DType {
        match self.reads_in_place(precision, StoredFormat::of(stored)) {
            true => stored,
            false => precision.compute(),
        }
    }

    /// The type of a cache that nobody asks for: f32, and bf16 where own kernels read it and f32 was
    /// given up already, by quantized weights or by computing in bf16.
    pub fn default_cache(&self, precision: Precision, is_quantized: bool) -> CacheDtype {
        let gave_up_f32 = is_quantized || precision == Precision::Bf16;
        let kernels = self.kernels(precision);
        let reads_bf16 = kernels.is_some_and(|k| k.cache_dtypes.contains(&CacheDtype::Bf16));
        match reads_bf16 && gave_up_f32 {
            true => CacheDtype::Bf16,
            false => CacheDtype::F32,
        }
    }

    /// What a cache in `dtype` is made with.
    pub(crate) fn cache_setup<B: Backend>(
        &self,
        precision: Precision,
        dtype: CacheDtype,
    ) -> CacheSetup<B> {
        CacheSetup {
            check: self.check_cache(dtype),
            activations: self.activations(precision),
            bucket: self.cache_bucket,
            allocator: super::allocator::<B>(),
        }
    }
}

/// The precisions whose dtype burn's operations of `B` have on `device`.
pub(super) fn precisions<B: Backend>(device: &B::Device) -> Vec<Precision> {
    let has = |precision: &Precision| B::supports_dtype(device, precision.compute());
    Precision::ALL.into_iter().filter(has).collect()
}
