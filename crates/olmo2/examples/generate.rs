//! One text from the embedded model, or from a folder: `cargo run -p olmo2 --example generate
//! --features demo -- "Once upon a time" [FOLDER]`. Any burn backend in place of `Flex` will do.

use std::error::Error;
use std::io::Write;

use burn::backend::Flex;
use olmo2::{Checkpoint, LoadOptions, Session, TextStream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".into());
    let checkpoint = match args.next() {
        Some(folder) => Checkpoint::open(folder)?,
        None => Checkpoint::demo(),
    };
    let model = checkpoint.load::<Flex>(&LoadOptions::default(), &Default::default())?;
    let tokenizer = checkpoint.needed_tokenizer()?;
    let params = checkpoint.generate_params()?.with_max_new_tokens(100);

    let mut session = Session::new(model, 512);
    let mut text = TextStream::new(&tokenizer, &[])?;
    print!("{prompt}");
    for id in session.generate(&tokenizer.encode(&prompt)?, params)? {
        print!("{}", text.push(id?));
        std::io::stdout().flush()?;
    }
    println!("{}", text.finish());
    Ok(())
}
