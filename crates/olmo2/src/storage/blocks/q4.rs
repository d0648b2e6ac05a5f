//! 4-bit codes into a table that each block selects, with an 8-bit scale for each block:
//! `weight = scale * table[code]`. Scales are steps below the largest scale of the matrix.

use burn::tensor::DType;
use olmo2_kernels::WeightData;
use olmo2_kernels::quant::{self, BLOCK, MIN_MAX_SCALE, blocks, q4_max_scale, quantize_q4};

use super::{ArrayFault, ArraySpec, BlockFormat, BlockQuantizer};

/// The name in records of the array with the largest scale of the matrix.
const MAX_SCALE: &str = "top";

pub(super) struct Q4;

impl BlockFormat for Q4 {
    fn name(&self) -> &'static str {
        "q4"
    }

    fn max_abs(&self) -> f32 {
        f32::MAX
    }

    fn arrays(&self, [out, input]: [usize; 2]) -> Vec<ArraySpec> {
        let blocks = blocks(input);
        vec![
            ArraySpec::new("quants", DType::U8, &[out, blocks, BLOCK / 2]),
            ArraySpec::new("scales", DType::U8, &[out, blocks]),
            ArraySpec::new("selectors", DType::U8, &[out, blocks]),
            ArraySpec::new(MAX_SCALE, DType::F32, &[1]),
        ]
    }

    fn check(&self, arrays: &[bytes::Bytes]) -> Result<(), ArrayFault> {
        let found = max_scale(arrays);
        if found == 0.0 || (MIN_MAX_SCALE..=f32::MAX).contains(&found) {
            return Ok(());
        }
        Err(ArrayFault {
            array: MAX_SCALE,
            what: "value",
            expected: format!("0 or a number from {MIN_MAX_SCALE:e} on"),
            found: found.to_string(),
        })
    }

    fn view<'a>(&self, arrays: &'a [bytes::Bytes]) -> WeightData<'a> {
        WeightData::Q4(quant::Q4 {
            quants: &arrays[0],
            scales: &arrays[1],
            selectors: &arrays[2],
            max_scale: max_scale(arrays),
        })
    }

    /// Scales are steps below the largest one.
    fn needs_max_abs(&self) -> bool {
        true
    }

    fn quantizer(&self, [out, input]: [usize; 2], max_abs: f32) -> Box<dyn BlockQuantizer> {
        let blocks = out * blocks(input);
        Box::new(Quantizer {
            input,
            max_scale: q4_max_scale(max_abs),
            quants: Vec::new(),
            scales: vec![0; blocks],
            selectors: vec![0; blocks],
            done: 0,
        })
    }
}

fn max_scale(arrays: &[bytes::Bytes]) -> f32 {
    bytemuck::pod_read_unaligned(&arrays[3])
}

struct Quantizer {
    input: usize,
    max_scale: f32,
    /// Of the last rows.
    quants: Vec<u8>,
    /// Of the whole matrix, as are the selectors.
    scales: Vec<u8>,
    selectors: Vec<u8>,
    /// Blocks quantized so far.
    done: usize,
}

impl BlockQuantizer for Quantizer {
    fn rows(&mut self, values: &[f32]) -> &[u8] {
        let count = values.len() / self.input * blocks(self.input);
        self.quants.resize(count * BLOCK / 2, 0);
        let scales = &mut self.scales[self.done..][..count];
        let selectors = &mut self.selectors[self.done..][..count];
        let (input, max_scale) = (self.input, self.max_scale);
        quantize_q4(
            values,
            input,
            max_scale,
            &mut self.quants,
            scales,
            selectors,
        );
        self.done += count;
        &self.quants
    }

    fn finish(self: Box<Self>) -> Vec<Vec<u8>> {
        let max_scale = self.max_scale.to_le_bytes().to_vec();
        vec![self.scales, self.selectors, max_scale]
    }
}
