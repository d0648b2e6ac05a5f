//! A conversation with the embedded model, or with one in a folder: `cargo run -p olmo2 --example
//! chat --features demo -- [FOLDER]`. What the last answer left in the cache is not computed again.

use std::error::Error;
use std::io::Write;

use burn::backend::Flex;
use olmo2::{Checkpoint, LoadOptions, Message, Session, TextStream};

fn main() -> Result<(), Box<dyn Error>> {
    let checkpoint = match std::env::args().nth(1) {
        Some(folder) => Checkpoint::open(folder)?,
        None => Checkpoint::demo(),
    };
    let model = checkpoint.load::<Flex>(&LoadOptions::default(), &Default::default())?;
    let (tokenizer, params) = (
        checkpoint.needed_tokenizer()?,
        checkpoint.generate_params()?,
    );
    let template = checkpoint.chat_template()?.ok_or("not a chat model")?;
    let capacity = model.config().max_position_embeddings;
    let (mut session, mut messages) = (Session::new(model, capacity), Vec::new());
    for line in std::io::stdin().lines() {
        messages.push(Message::user(line?));
        let prompt = tokenizer.encode(&template.render(&messages, true)?)?;
        let room = session
            .max_new_tokens(prompt.len())
            .min(params.max_new_tokens);
        let params = params.clone().with_max_new_tokens(room);
        let mut text = TextStream::new(&tokenizer, &[])?;
        for id in session.generate(&prompt, params)? {
            print!("{}", text.push(id?));
            std::io::stdout().flush()?;
        }
        println!("{}", text.finish());
        messages.push(Message::assistant(text.into_text()));
    }
    Ok(())
}
