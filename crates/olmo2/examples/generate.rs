//! One text from the embedded model, or from a folder: `cargo run -p olmo2 --example generate
//! --features demo -- "Once upon a time" [FOLDER]`. Any burn backend in place of `Flex` will do.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use burn::backend::Flex;
use olmo2::tokenizer::SpecialTokens;
use olmo2::{GenerateParams, LoadOptions, Olmo2, Session, Tokenizer, demo};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `main`'s own way to tell an error is the form for programmers.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".into());
    let (options, device) = (LoadOptions::default(), Default::default());
    let (model, tokenizer): (Olmo2<Flex>, _) = match args.next() {
        Some(folder) => (
            Olmo2::load(Path::new(&folder), &options, &device)?,
            Tokenizer::from_folder(Path::new(&folder))?,
        ),
        None => (demo::load(&options, &device)?, demo::tokenizer()?),
    };

    let mut session = Session::new(&model, 512);
    let mut params = GenerateParams::greedy(&model, 100);
    params.allowed_ids = tokenizer.vocab_size();
    let mut text = tokenizer.decode_stream(SpecialTokens::Skip);
    print!("{prompt}");
    for id in session.generate(&tokenizer.encode(&prompt)?, params)? {
        print!("{}", text.push(id?).unwrap_or_default());
        std::io::stdout().flush()?;
    }
    println!("{}", text.finish().unwrap_or_default());
    Ok(())
}
