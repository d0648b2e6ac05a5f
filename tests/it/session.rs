//! A checkpoint's files opened as one, and sessions that own their model.

use std::fs;
use std::thread;

use burn::prelude::*;
use olmo2::{Checkpoint, CheckpointError, LoadOptions, Olmo2, Session, TextStream};
use olmo2_tests::{golden_folder, on_cpus};

/// A copy of a golden's config and weights, with another generation config.
fn folder_that_ends_with(generation_config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        let from = golden_folder("gqa-tiny").join(name);
        fs::copy(from, folder.path().join(name)).expect("copied");
    }
    let path = folder.path().join("generation_config.json");
    fs::write(path, generation_config).expect("written");
    folder
}

fn generated<B: Backend>(checkpoint: &Checkpoint, prompt: &[u32]) -> Vec<u32> {
    let options = LoadOptions::default();
    let model: Olmo2<B> = checkpoint
        .load(&options, &Default::default())
        .expect("a model");
    let params = checkpoint.generate_params().expect("parameters");
    let mut session = Session::new(model, 64);
    let generation = session.generate(prompt, params.with_max_new_tokens(8));
    generation
        .expect("it fits")
        .map(|id| id.expect("an id"))
        .collect()
}

/// The library stops where the program stops: at the ids of the generation config.
fn generation_ends_where_the_files_say<B: Backend>() {
    let folder = folder_that_ends_with(r#"{"eos_token_id": 221}"#);
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    assert_eq!(generated::<B>(&checkpoint, &[1, 2, 3]), [334, 334]);
    let folder = folder_that_ends_with("{}");
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    assert_eq!(generated::<B>(&checkpoint, &[1, 2, 3]).len(), 8);
}

/// Olmo 3's turns end with `<|im_end|>`; an `<|im_start|>` begins the turn of someone else.
#[test]
fn the_marks_of_a_chatml_template_end_a_text() {
    let folder = folder_that_ends_with(r#"{"eos_token_id": 100257}"#);
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let stops = || checkpoint.generate_params().expect("parameters").stop_ids;
    let template = folder.path().join("chat_template.jinja");
    fs::write(&template, "{{ '<|im_start|>user' }}").expect("written");
    assert_eq!(stops(), [100_257], "no tokenizer, no marks");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let from = golden_folder("tokenizer").join(name);
        fs::copy(from, folder.path().join(name)).expect("copied");
    }
    let reopened = Checkpoint::open(folder.path()).expect("a checkpoint");
    let params = reopened.generate_params().expect("parameters");
    assert_eq!(params.stop_ids, [100_257, 100_264, 100_265]);
    fs::write(&template, "{{ messages[0]['content'] }}").expect("written");
    let params = reopened.generate_params().expect("parameters");
    assert_eq!(params.stop_ids, [100_257]);
}

/// A session owns its model, so both fit into one struct, and moves to another thread.
fn a_session_moves_to_another_thread<B: Backend>() {
    struct Engine<B: Backend> {
        model: Olmo2<B>,
        session: Session<B>,
    }
    let checkpoint = Checkpoint::demo();
    let model: Olmo2<B> = checkpoint
        .load(&LoadOptions::default(), &Default::default())
        .expect("a model");
    let mut engine = Engine {
        session: Session::new(model.clone(), 64),
        model,
    };
    let tokenizer = checkpoint.needed_tokenizer().expect("a tokenizer");
    let params = checkpoint.generate_params().expect("parameters");
    let params = params.with_max_new_tokens(4);
    let prompt = tokenizer.encode("Once upon a time").expect("ids");
    let run = |session: &mut Session<B>| {
        let mut text = TextStream::new(&tokenizer, &[]).expect("a stream");
        for id in session.generate(&prompt, params.clone()).expect("it fits") {
            text.push(id.expect("an id"));
        }
        text.finish();
        text.into_text()
    };
    let here = run(&mut Session::new(engine.model.clone(), 64));
    let there = thread::scope(|scope| {
        let handle = scope.spawn(|| run(&mut engine.session));
        handle.join().expect("the thread ends well")
    });
    assert!(!here.is_empty());
    assert_eq!(here, there);
}

#[test]
fn what_is_no_checkpoint_is_refused_by_name() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = Checkpoint::open(empty.path()).expect_err("an empty folder");
    assert!(matches!(error, CheckpointError::NoConfig { .. }), "{error}");
    let missing = empty.path().join("missing");
    let error = Checkpoint::open(missing).expect_err("no folder");
    assert!(matches!(error, CheckpointError::NoFolder { .. }), "{error}");
    let file = golden_folder("gqa-tiny/config.json");
    let error = Checkpoint::open(file).expect_err("a file");
    assert!(
        matches!(error, CheckpointError::NotAFolder { .. }),
        "{error}"
    );
}

on_cpus!(
    generation_ends_where_the_files_say,
    a_session_moves_to_another_thread,
);
