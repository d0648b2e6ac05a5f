//! A cache changes nothing: cached, chunked, padded and batched passes equal one full pass.

use burn::prelude::*;
use olmo2::{CacheOptions, ForwardInput, InputError, KvCache, LogitRows, Olmo2, Olmo2Config};
use olmo2_tests::{assert_close, fixed_ids, fixed_model, on_every_backend, values};

const VOCAB: usize = 96;
const TOLERANCE: f32 = 1e-4;

fn config() -> Olmo2Config {
    config_of(6, 2)
}

/// Heads of 16: a sum over 8 is one that cubek gets wrong on Vulkan in software (ARCHITECTURE.md).
fn config_of(heads: usize, kv_heads: usize) -> Olmo2Config {
    let text = format!(
        r#"{{"model_type": "olmo2", "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80,
            "num_hidden_layers": 2, "head_dim": 16, "num_attention_heads": {heads},
            "num_key_value_heads": {kv_heads}, "max_position_embeddings": 512,
            "rope_theta": 10000.0, "initializer_range": 0.2}}"#
    );
    Olmo2Config::from_json(&text).expect("a valid config")
}

fn model<B: Backend>() -> Olmo2<B> {
    let device = B::Device::default();
    fixed_model(&config(), &device)
}

fn ids(len: usize, seed: u32) -> Vec<u32> {
    fixed_ids(len, seed, VOCAB)
}

fn cache<B: Backend>(model: &Olmo2<B>, slots: usize) -> KvCache<B> {
    model.new_cache(CacheOptions {
        slots,
        capacity: 512,
        ..CacheOptions::default()
    })
}

fn full<B: Backend>(model: &Olmo2<B>, ids: &[u32]) -> Vec<f32> {
    let out = model
        .forward(ForwardInput::ids(ids))
        .expect("a valid input");
    values(out.logits.expect("logits"))
}

fn feed<B: Backend>(model: &Olmo2<B>, cache: &mut KvCache<B>, ids: &[u32]) -> Vec<f32> {
    let out = model
        .forward(ForwardInput::ids(ids).with_cache(cache))
        .expect("a valid input");
    values(out.logits.expect("logits"))
}

/// The causal trap of OLMo2.md 1.8: with more keys than queries the diagonal must stay at the
/// bottom right. 300 tokens cross a bucket's bound, so the cache also grows on the way.
fn chunked_prefill_and_decode_match_full_pass<B: Backend>() {
    let model = model::<B>();
    let ids = ids(300, 1);
    let expected = full(&model, &ids);
    let mut cache = cache(&model, 1);
    let mut found = Vec::new();
    let mut rest = ids.as_slice();
    for len in [100, 1, 1, 7, 150, 40, 1] {
        let (chunk, tail) = rest.split_at(len);
        found.extend(feed(&model, &mut cache, chunk));
        rest = tail;
    }
    assert!(rest.is_empty());
    assert_eq!(cache.len(0), 300);
    assert_close("logits", &found, &expected, TOLERANCE);
}

/// What burn's products attend over is never a length that cubek gets wrong (ARCHITECTURE.md); own
/// kernels need no more than was asked for.
fn an_odd_capacity_is_allocated_as_products_need_it<B: Backend>() {
    let model = model::<B>();
    let options = CacheOptions {
        capacity: 296,
        ..CacheOptions::default()
    };
    let mut cache = model.new_cache(options);
    let ids = ids(264, 6);
    let found = feed(&model, &mut cache, &ids);
    assert_close("logits", &found, &full(&model, &ids), TOLERANCE);
    let layers_heads_and_both = 2 * 2 * 2;
    let positions = cache.size_bytes() / (layers_heads_and_both * 16 * size_of::<f32>());
    let own_kernels = B::name(&B::Device::default()) == "flex";
    assert_eq!(positions, if own_kernels { 296 } else { 512 });
}

/// Rows of 9, 5 and 1 tokens padded on the left, then one more token for each.
fn left_padded_batch_matches_each_row_alone<B: Backend>() {
    let model = model::<B>();
    let rows = [ids(9, 2), ids(5, 3), ids(1, 4)];
    let (padded, mask) = pad_left(&rows, 9);
    let mut batch = cache(&model, 3);
    let input = ForwardInput::batch(padded)
        .attention_mask(mask)
        .with_cache(&mut batch);
    let first = values(
        model
            .forward(input.last_logits())
            .expect("valid")
            .logits
            .expect("logits"),
    );
    let next = ForwardInput::batch(vec![vec![7], vec![8], vec![9]]).with_cache(&mut batch);
    let second = values(model.forward(next).expect("valid").logits.expect("logits"));

    for (i, row) in rows.iter().enumerate() {
        assert_eq!(batch.len(i), row.len() + 1);
        let whole: Vec<u32> = row.iter().copied().chain([7 + i as u32]).collect();
        let alone = full(&model, &whole);
        let (before, last) = alone.split_at(row.len() * VOCAB);
        let at = i * VOCAB..(i + 1) * VOCAB;
        assert_close(
            "prompt",
            &first[at.clone()],
            &before[(row.len() - 1) * VOCAB..],
            TOLERANCE,
        );
        assert_close("next token", &second[at], last, TOLERANCE);
    }
}

/// The same without a cache, padded on either side.
fn padding_changes_nothing_without_a_cache<B: Backend>() {
    let model = model::<B>();
    let row = ids(6, 5);
    let alone = full(&model, &row);
    for left in [0, 3] {
        let mut padded = vec![0; 9];
        let mut mask = vec![false; 9];
        padded[left..left + 6].copy_from_slice(&row);
        mask[left..left + 6].fill(true);
        let input = ForwardInput::batch(vec![padded]).attention_mask(vec![mask]);
        let logits = values(model.forward(input).expect("valid").logits.expect("logits"));
        assert_close(
            "logits",
            &logits[left * VOCAB..(left + 6) * VOCAB],
            &alone,
            TOLERANCE,
        );
    }
}

/// Two sequences take turns in slots 2 and 0 of three.
fn slots_do_not_mix<B: Backend>() {
    let model = model::<B>();
    let (a, b) = (ids(10, 6), ids(12, 7));
    let mut cache = cache(&model, 3);
    let mut step = |slots: Vec<usize>, rows: Vec<Vec<u32>>| {
        let input = ForwardInput::batch(rows)
            .slots(slots)
            .with_cache(&mut cache);
        values(
            model
                .forward(input.last_logits())
                .expect("valid")
                .logits
                .expect("logits"),
        )
    };
    step(vec![2], vec![a[..7].to_vec()]);
    step(vec![0], vec![b[..9].to_vec()]);
    let found = step(vec![2, 0], vec![a[7..].to_vec(), b[9..].to_vec()]);
    let last = |ids: &[u32]| full(&model, ids)[(ids.len() - 1) * VOCAB..].to_vec();
    assert_close("slot 2", &found[..VOCAB], &last(&a), TOLERANCE);
    assert_close("slot 0", &found[VOCAB..], &last(&b), TOLERANCE);
}

fn truncated_and_copied_prefixes_continue_rightly<B: Backend>() {
    let model = model::<B>();
    let whole = ids(20, 8);
    let mut cache = cache(&model, 2);
    feed(&model, &mut cache, &whole);
    cache.copy_prefix(0, 1, 12);
    cache.truncate(0, 12);
    assert_eq!((cache.len(0), cache.len(1)), (12, 12));
    let expected = &full(&model, &whole)[12 * VOCAB..];
    let rows = vec![whole[12..].to_vec(); 2];
    let input = ForwardInput::batch(rows).with_cache(&mut cache);
    let found = values(model.forward(input).expect("valid").logits.expect("logits"));
    assert_close("truncated", &found[..expected.len()], expected, TOLERANCE);
    assert_close("copied", &found[expected.len()..], expected, TOLERANCE);
    cache.clear();
    assert!(cache.is_empty(0) && cache.is_empty(1));
    assert_close(
        "cleared",
        &feed(&model, &mut cache, &whole),
        &full(&model, &whole),
        TOLERANCE,
    );
}

fn embeddings_positions_and_rows_agree_with_ids<B: Backend>() {
    let model = model::<B>();
    let ids = ids(8, 9);
    let expected = full(&model, &ids);
    let hidden = model
        .forward(ForwardInput::ids(&ids).hidden_states())
        .expect("valid")
        .hidden_states;
    assert_eq!(hidden.len(), 3);
    assert_eq!(hidden[2].dims(), [1, 8, 48]);

    let input = ForwardInput::input_embeds(hidden[0].clone());
    let input = input
        .position_ids(vec![(0..8).collect()])
        .logits(LogitRows::Rows(vec![7, 2]));
    let found = values(model.forward(input).expect("valid").logits.expect("logits"));
    assert_close("row 7", &found[..VOCAB], &expected[7 * VOCAB..], TOLERANCE);
    assert_close(
        "row 2",
        &found[VOCAB..],
        &expected[2 * VOCAB..3 * VOCAB],
        TOLERANCE,
    );

    let shifted = ForwardInput::ids(&ids).position_ids(vec![(100..108).collect()]);
    let found = values(
        model
            .forward(shifted)
            .expect("valid")
            .logits
            .expect("logits"),
    );
    assert_close("rotation is relative", &found, &expected, TOLERANCE);
    let stretched = ForwardInput::ids(&ids).position_ids(vec![(0..8).map(|p| p * 9).collect()]);
    let found = values(
        model
            .forward(stretched)
            .expect("valid")
            .logits
            .expect("logits"),
    );
    let moved = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        moved > 1e-2,
        "positions reach the rotation: largest change {moved}"
    );
}

/// A bad input is refused before any work, and the cache stays as it was.
fn bad_inputs_are_refused<B: Backend>() {
    let model = model::<B>();
    let refuse = |input: ForwardInput<'_, B>| model.forward(input).expect_err("a bad input");
    let batch =
        |rows: &[&[u32]]| ForwardInput::<B>::batch(rows.iter().map(|row| row.to_vec()).collect());
    assert_eq!(
        refuse(ForwardInput::ids(&[])),
        InputError::Empty { rows: 1, seq: 0 }
    );
    assert!(matches!(
        refuse(ForwardInput::ids(&[1, 96])),
        InputError::TokenId {
            id: 96,
            position: 1,
            ..
        }
    ));
    assert!(matches!(
        refuse(batch(&[&[1, 2], &[3]])),
        InputError::Shape {
            what: "ids",
            row: 1,
            ..
        }
    ));
    let mask = ForwardInput::ids(&[1, 2]).attention_mask(vec![vec![true]]);
    assert!(matches!(
        refuse(mask),
        InputError::Shape {
            what: "attention_mask",
            ..
        }
    ));
    let far = ForwardInput::ids(&[1]).position_ids(vec![vec![512]]);
    assert_eq!(
        refuse(far),
        InputError::Position {
            position: 512,
            max: 512
        }
    );
    let row = ForwardInput::ids(&[1]).logits(LogitRows::Rows(vec![1]));
    assert_eq!(refuse(row), InputError::LogitRow { row: 1, rows: 1 });

    let mut small = model.new_cache(CacheOptions {
        slots: 2,
        capacity: 4,
        ..CacheOptions::default()
    });
    feed(&model, &mut small, &[1, 2, 3]);
    let full = ForwardInput::ids(&[1, 2]).with_cache(&mut small);
    assert_eq!(
        refuse(full),
        InputError::Capacity {
            wanted: 5,
            capacity: 4
        }
    );
    let twice = batch(&[&[1], &[2]])
        .slots(vec![1, 1])
        .with_cache(&mut small);
    assert_eq!(refuse(twice), InputError::Slot { slot: 1, slots: 2 });
    let right = batch(&[&[1, 2]])
        .attention_mask(vec![vec![true, false]])
        .with_cache(&mut small);
    assert_eq!(refuse(right), InputError::Padding { row: 0 });
    assert_eq!((small.len(0), small.len(1)), (3, 0));
    small.copy_prefix(0, 1, 0);
    assert_eq!((small.len(0), small.len(1)), (3, 0));

    let other = config_of(4, 4);
    let mut foreign =
        Olmo2::<B>::new(&other, &B::Device::default()).new_cache(CacheOptions::default());
    let input = ForwardInput::ids(&[1]).with_cache(&mut foreign);
    assert_eq!(
        refuse(input),
        InputError::Cache {
            expected: [2, 2, 16],
            found: [2, 4, 16]
        }
    );
}

on_every_backend!(
    chunked_prefill_and_decode_match_full_pass,
    an_odd_capacity_is_allocated_as_products_need_it,
    left_padded_batch_matches_each_row_alone,
    padding_changes_nothing_without_a_cache,
    slots_do_not_mix,
    truncated_and_copied_prefixes_continue_rightly,
    embeddings_positions_and_rows_agree_with_ids,
    bad_inputs_are_refused,
);

fn pad_left(rows: &[Vec<u32>], seq: usize) -> (Vec<Vec<u32>>, Vec<Vec<bool>>) {
    let padded = |row: &Vec<u32>| {
        let padding = seq - row.len();
        let ids = [vec![0; padding], row.clone()].concat();
        (ids, [vec![false; padding], vec![true; row.len()]].concat())
    };
    rows.iter().map(padded).unzip()
}
