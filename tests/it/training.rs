//! The module under `Autodiff`: the loss, and gradients that are those of the loss.

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, Optimizer, SgdConfig};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, TensorData};
use olmo2::{ForwardInput, LoadOptions, Olmo2, causal_lm_loss};
use olmo2_tests::{golden_folder, values};

const IGNORED: i64 = -100;

fn labels<B: Backend>(rows: &[[i32; 4]]) -> Tensor<B, 2, Int> {
    let flat = rows.concat();
    Tensor::from_data(
        TensorData::new(flat, [rows.len(), 4]),
        &B::Device::default(),
    )
}

/// Two classes with logits 0 and ln 3: probabilities 1/4 and 3/4. Targets are the labels from
/// the second on; the ignored ones count neither above nor below the line.
fn loss_is_the_shifted_mean_over_kept_targets<B: Backend>() {
    let device = B::Device::default();
    let row = [0.0, 3.0f32.ln()];
    let logits = Tensor::<B, 2>::from_data(
        TensorData::new(row.repeat(8), [8, 2]),
        (&device, DType::F32),
    );
    let labels = labels::<B>(&[[0, 1, 0, IGNORED as i32], [1, IGNORED as i32, 1, 1]]);
    let loss = values(causal_lm_loss(logits, labels, IGNORED));
    let expected = (4.0f32.ln() + 3.0 * (4.0f32 / 3.0).ln()) / 4.0;
    assert!(
        (loss[0] - expected).abs() < 1e-6,
        "{} against {expected}",
        loss[0]
    );
}

fn load<B: Backend>() -> Olmo2<B> {
    let device = B::Device::default();
    Olmo2::load(&golden_folder("mqa-tied"), &LoadOptions::default(), &device).expect("a model")
}

fn loss<B: Backend>(model: &Olmo2<B>) -> Tensor<B, 1> {
    let rows = [[5, 17, 200, 3], [8, 8, 41, 290]];
    let ids = rows.map(|row| row.map(|id| id as u32).to_vec()).to_vec();
    let logits = model
        .forward(ForwardInput::batch(ids))
        .expect("valid")
        .logits
        .expect("logits");
    causal_lm_loss(logits, labels(&rows), IGNORED)
}

/// The gradient of some weights against the slope of the loss between two points.
fn gradients_are_slopes_of_the_loss<B: AutodiffBackend>() {
    let model = load::<B>();
    let grads = loss(&model).backward();
    let layer = &model.model.layers[0];
    let weights = [
        &layer.self_attn.k_proj.weight,
        &layer.self_attn.o_proj.weight,
        &layer.mlp.gate_proj.weight,
        &model.model.embed_tokens.weight,
    ]
    .map(|weight| weight.float().expect("floats"));
    for (i, weight) in weights.into_iter().enumerate() {
        let grad = values(weight.val().grad(&grads).expect("a gradient"));
        let largest = (0..grad.len()).max_by(|a, b| grad[*a].abs().total_cmp(&grad[*b].abs()));
        let at = largest.expect("weights");
        let step = 1e-2;
        let slope = (moved::<B>(i, at, step) - moved::<B>(i, at, -step)) / (2.0 * step);
        let error = (slope - grad[at]).abs() / grad[at].abs();
        assert!(
            error < 2e-2,
            "weight {i} at {at}: gradient {}, slope {slope}",
            grad[at]
        );
    }
}

/// The loss with one weight moved.
fn moved<B: AutodiffBackend>(weight: usize, at: usize, by: f32) -> f32 {
    let mut model = load::<B>().valid();
    let layer = &mut model.model.layers[0];
    let weight = match weight {
        0 => &mut layer.self_attn.k_proj.weight,
        1 => &mut layer.self_attn.o_proj.weight,
        2 => &mut layer.mlp.gate_proj.weight,
        _ => &mut model.model.embed_tokens.weight,
    };
    let param = weight.float_mut().expect("floats");
    let shape = param.dims();
    let mut data = values(param.val());
    data[at] += by;
    let device = Default::default();
    let tensor = Tensor::from_data(TensorData::new(data, shape), (&device, DType::F32));
    *param = burn::module::Param::from_tensor(tensor);
    values(loss(&model))[0]
}

/// Steps of plain descent lower the loss of the batch they are taken on.
fn a_step_lowers_the_loss<B: AutodiffBackend>() {
    let mut model = load::<B>();
    let mut optimizer = SgdConfig::new().init();
    let before = values(loss(&model))[0];
    for _ in 0..5 {
        let grads = loss(&model).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        model = optimizer.step(0.05, model, grads);
    }
    let after = values(loss(&model))[0];
    assert!(after < before - 0.1, "{before} became {after}");
}

olmo2_tests::on_every_backend!(loss_is_the_shifted_mean_over_kept_targets);

/// Makes a module of tests for each backend that differentiates.
macro_rules! under_autodiff {
    ($($module:ident, $feature:literal, $backend:ident);* $(;)?) => {$(
        #[cfg(feature = $feature)]
        mod $module {
            type B = burn::backend::Autodiff<olmo2_tests::backends::$backend>;

            #[test]
            fn gradients_are_slopes_of_the_loss() {
                super::gradients_are_slopes_of_the_loss::<B>();
            }

            #[test]
            fn a_step_lowers_the_loss() {
                super::a_step_lowers_the_loss::<B>();
            }
        }
    )*};
}

under_autodiff! {
    autodiff_flex, "flex", Flex;
    autodiff_ndarray, "ndarray", NdArray;
}
