//! 8-bit integers with an f16 scale for each block: `weight = scale * quant`.

use burn::tensor::DType;
use half::f16;
use olmo2_kernels::WeightData;
use olmo2_kernels::quant::{self, BLOCK, blocks, quantize_q8};

use super::{ArraySpec, BlockFormat, BlockQuantizer};

pub(super) struct Q8;

impl BlockFormat for Q8 {
    fn name(&self) -> &'static str {
        "q8"
    }

    fn max_abs(&self) -> f32 {
        127.0 * f16::MAX.to_f32()
    }

    fn arrays(&self, [out, input]: [usize; 2]) -> Vec<ArraySpec> {
        let blocks = blocks(input);
        let padded = blocks.saturating_mul(BLOCK);
        vec![
            ArraySpec::new("quants", DType::I8, &[out, padded]),
            ArraySpec::new("scales", DType::F16, &[out, blocks]),
        ]
    }

    fn view<'a>(&self, arrays: &'a [bytes::Bytes]) -> WeightData<'a> {
        WeightData::Q8(quant::Q8 {
            quants: bytemuck::cast_slice(&arrays[0]),
            scales: bytemuck::cast_slice(&arrays[1]),
        })
    }

    fn quantizer(&self, [out, input]: [usize; 2], _max_abs: f32) -> Box<dyn BlockQuantizer> {
        Box::new(Quantizer {
            input,
            quants: Vec::new(),
            scales: vec![f16::ZERO; out * blocks(input)],
            done: 0,
        })
    }
}

struct Quantizer {
    input: usize,
    /// Of the last rows.
    quants: Vec<i8>,
    /// Of the whole matrix.
    scales: Vec<f16>,
    /// Blocks quantized so far.
    done: usize,
}

impl BlockQuantizer for Quantizer {
    fn rows(&mut self, values: &[f32]) -> &[u8] {
        let count = values.len() / self.input * blocks(self.input);
        self.quants.resize(count * BLOCK, 0);
        let scales = &mut self.scales[self.done..][..count];
        quantize_q8(values, self.input, &mut self.quants, scales);
        self.done += count;
        bytemuck::cast_slice(&self.quants)
    }

    fn finish(self: Box<Self>) -> Vec<Vec<u8>> {
        vec![bytemuck::cast_slice(&self.scales).to_vec()]
    }
}
