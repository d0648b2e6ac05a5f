//! The characters of the corpus: how each is introduced, named later, and which pronouns stay with it.

use anyhow::{Result, bail};

use crate::stage::Stage;

/// Subject, object, possessive, possessor, reflexive.
type Pronouns = [&'static str; 4];

const SHE: Pronouns = ["she", "her", "her", "herself"];
const HE: Pronouns = ["he", "him", "his", "himself"];
const I: Pronouns = ["I", "me", "my", "myself"];

/// Kinds of which a story may hold two.
const HUMAN: [&str; 2] = ["girl", "boy"];

/// One character, ready to be bound to a prefix.
struct Character {
    /// As subject after the introduction.
    name: String,
    object: String,
    possessive: String,
    pronouns: Pronouns,
    kind: String,
    /// Definite description: `the girl`.
    the: String,
    /// First mention with an indefinite article: `a little girl named Anna`.
    intro: String,
    /// First mention in the middle of things: `the little girl`, `Anna`.
    opening: String,
    trait_: String,
}

impl Character {
    /// One that is called by its name wherever it is mentioned.
    fn new(name: String, kind: impl Into<String>, female: bool) -> Self {
        Self {
            object: name.clone(),
            possessive: possessive(&name),
            pronouns: if female { SHE } else { HE },
            kind: kind.into(),
            the: name.clone(),
            intro: name.clone(),
            opening: name.clone(),
            trait_: String::new(),
            name,
        }
    }
}

fn possessive(name: &str) -> String {
    if name.ends_with('s') {
        format!("{name}'")
    } else {
        format!("{name}'s")
    }
}

/// Binds `prefix` (subject) and `prefix.o .p .he .him .his .self .kind .the .intro .open .trait`.
///
/// # Errors
/// An unknown class, or a grammar without the lists that names are drawn from.
pub(crate) fn bind(stage: &mut dyn Stage, prefix: &str, class: &str) -> Result<()> {
    if stage.is_bound(prefix) {
        return Ok(());
    }
    let mut character = draw(stage, prefix, class)?;
    // Two foxes or two Annas in one story would be hard to tell apart.
    for _ in 0..8 {
        let twin = stage.get("h").is_some_and(|name| name == character.name)
            || stage
                .get("h.kind")
                .is_some_and(|kind| kind == character.kind && !HUMAN.contains(&kind.as_str()));
        if !twin {
            break;
        }
        character = draw(stage, prefix, class)?;
    }
    for (field, value) in [
        ("", character.name),
        (".o", character.object),
        (".p", character.possessive),
        (".he", character.pronouns[0].to_owned()),
        (".him", character.pronouns[1].to_owned()),
        (".his", character.pronouns[2].to_owned()),
        (".self", character.pronouns[3].to_owned()),
        (".kind", character.kind),
        (".the", character.the),
        (".intro", character.intro),
        (".open", character.opening),
        (".trait", character.trait_),
    ] {
        stage.bind(&format!("{prefix}{field}"), value);
    }
    if prefix == "h" {
        bind_tale(stage)
    } else {
        Ok(())
    }
}

/// What a hero settles for the whole tale: who "they" are, the season, what the hero's trait shows
/// itself in (`{habit}`, `{praise}`).
fn bind_tale(stage: &mut dyn Stage) -> Result<()> {
    let we = stage.get("h").is_some_and(|name| name == "I");
    let forms = if we {
        ["we", "us", "our"]
    } else {
        ["they", "them", "their"]
    };
    for (slot, form) in ["they", "them", "their"].into_iter().zip(forms) {
        stage.bind(slot, form.to_owned());
    }
    let season = stage.expand("{season}")?;
    stage.bind("season", season);
    let trait_ = stage.get("h.trait").unwrap_or_default();
    stage.bind("trait", trait_);
    stage.pick("character", None)
}

fn draw(stage: &mut dyn Stage, prefix: &str, class: &str) -> Result<Character> {
    if let Some(kind) = stage.get(&format!("{prefix}.wish")) {
        return of_kind(stage, &kind);
    }
    // The other one's pronoun, so that "he" and "she" tell two characters apart.
    let taken = stage.get("h.he").unwrap_or_default();
    let female = match taken.as_str() {
        "she" => stage.chance(12),
        "he" => stage.chance(88),
        _ => stage.chance(50),
    };
    let roll = stage.below(100);
    match class {
        "any" if roll < 38 => child(stage, female),
        "any" if roll < 63 => animal(stage, female, None),
        "any" if roll < 75 => adult(stage, female),
        "any" if roll < 82 => relative(stage, female),
        "any" if roll < 90 => fantasy(stage, female, None),
        "any" => Ok(first_person(stage, female)),
        "other" if roll < 45 => child(stage, female),
        "other" if roll < 75 => animal(stage, female, None),
        "other" if roll < 92 => adult(stage, female),
        "other" => fantasy(stage, female, None),
        "person" if roll < 55 => child(stage, female),
        "person" if roll < 75 => adult(stage, female),
        "person" if roll < 87 => relative(stage, female),
        "person" => Ok(first_person(stage, female)),
        "child" => child(stage, female),
        "young" if roll < 75 => child(stage, female),
        "young" if roll < 88 => animal(stage, female, None),
        "young" => Ok(first_person(stage, female)),
        "animal" => animal(stage, female, None),
        "adult" => adult(stage, female),
        "relative" => relative(stage, female),
        "fantasy" => fantasy(stage, female, None),
        other => bail!("unknown class of character `{other}`"),
    }
}

/// A character of the kind that a reader asked for: an animal or a being of tales.
fn of_kind(stage: &mut dyn Stage, kind: &str) -> Result<Character> {
    let female = stage.chance(50);
    match kind {
        "girl" => child(stage, true),
        "boy" => child(stage, false),
        _ if stage.has_item("being", kind) => fantasy(stage, female, Some(kind)),
        _ => animal(stage, female, Some(kind)),
    }
}

/// A name from the lists, or one in twelve a made-up name, so that copying is learnt and not only
/// the names of the lists.
fn given_name(stage: &mut dyn Stage, female: bool) -> Result<String> {
    if !stage.chance(8) {
        return stage.expand(if female { "{girl-name}" } else { "{boy-name}" });
    }
    stage.expand(if female {
        "{Syllable-first}{syllable-girl}"
    } else {
        "{Syllable-first}{syllable-boy}"
    })
}

fn child(stage: &mut dyn Stage, female: bool) -> Result<Character> {
    let kind = if female { "girl" } else { "boy" };
    let the = format!("the {kind}");
    let trait_ = stage.expand("{trait}")?;
    let size = stage.expand("[little|young|small|little]")?;
    let adjective = if stage.chance(50) {
        size.clone()
    } else {
        trait_.clone()
    };
    // One child in five has no name.
    let named = !stage.chance(20);
    let name = if named {
        given_name(stage, female)?
    } else {
        the.clone()
    };
    let tail = if named {
        format!(" [named|called] {name}")
    } else {
        String::new()
    };
    Ok(Character {
        the,
        intro: stage.with_article(&format!("{adjective} {kind}{tail}"))?,
        opening: if named {
            name.clone()
        } else {
            format!("the {size} {kind}")
        },
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn animal(stage: &mut dyn Stage, female: bool, kind: Option<&str>) -> Result<Character> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => stage.expand("{animal}")?,
    };
    being(
        stage,
        female,
        kind,
        "{pet-name}",
        "[little|small|young|old|{trait}|{trait}|{fur}|{fur}]",
    )
}

fn fantasy(stage: &mut dyn Stage, female: bool, kind: Option<&str>) -> Result<Character> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => stage.expand("{being}")?,
    };
    let female = match kind.as_str() {
        "princess" | "queen" | "mermaid" | "witch" | "fairy" => true,
        "prince" | "king" | "knight" | "wizard" | "giant" => false,
        _ => female,
    };
    being(
        stage,
        female,
        kind,
        "{pet-name}",
        "[little|young|old|{trait}|{trait}]",
    )
}

fn being(
    stage: &mut dyn Stage,
    female: bool,
    kind: String,
    names: &str,
    adjectives: &str,
) -> Result<Character> {
    let trait_ = stage.expand("{trait}")?;
    let adjective = stage.expand(&adjectives.replace("{trait}", &trait_))?;
    let the = format!("the {kind}");
    let named = stage.chance(40);
    let name = match (named, stage.chance(20)) {
        (true, true) => given_name(stage, female)?,
        (true, false) => stage.expand(names)?,
        _ => the.clone(),
    };
    let tail = if named {
        format!(" [named|called] {name}")
    } else {
        String::new()
    };
    let intro = stage.with_article(&format!("{adjective} {kind}{tail}"))?;
    let opening = if named {
        format!("{name} the {kind}")
    } else {
        format!("the {adjective} {kind}")
    };
    Ok(Character {
        the,
        intro,
        opening,
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn adult(stage: &mut dyn Stage, female: bool) -> Result<Character> {
    let kind = stage.expand("{job}")?;
    let female = female && !kind.ends_with("man");
    let trait_ = stage.expand("{trait}")?;
    let adjective = stage.expand(&format!("[old|young|{trait_}|{trait_}]"))?;
    let the = format!("the {kind}");
    let (name, tail) = match stage.below(4) {
        0 => {
            let title = if female { "Mrs." } else { "Mr." };
            let name = stage.expand(&format!("{title} {{surname}}"))?;
            let tail = format!(" [named|called] {name}");
            (name, tail)
        }
        1 => {
            let name = given_name(stage, female)?;
            let tail = format!(" [named|called] {name}");
            (name, tail)
        }
        _ => (the.clone(), String::new()),
    };
    let intro = stage.with_article(&format!("{adjective} {kind}{tail}"))?;
    let opening = if tail.is_empty() {
        format!("the {adjective} {kind}")
    } else {
        format!("{name} the {kind}")
    };
    Ok(Character {
        the,
        intro,
        opening,
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn relative(stage: &mut dyn Stage, female: bool) -> Result<Character> {
    let kind = stage.expand(if female { "{kin-woman}" } else { "{kin-man}" })?;
    let name = format!("my {kind}");
    let trait_ = stage.expand("{trait}")?;
    Ok(Character {
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn first_person(stage: &mut dyn Stage, female: bool) -> Character {
    let kind = if female { "girl" } else { "boy" };
    Character {
        name: "I".into(),
        object: "me".into(),
        possessive: "my".into(),
        pronouns: I,
        kind: kind.into(),
        the: "I".into(),
        intro: "I".into(),
        opening: "I".into(),
        trait_: stage.expand("{trait}").unwrap_or_default(),
    }
}
