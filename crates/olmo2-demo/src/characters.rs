//! The characters of the corpus: how each is introduced, named later, and which pronouns stay with it.

use anyhow::{Result, bail};

use crate::scene::Scene;

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

    /// Slots behind the prefix, and their text.
    fn fields(self) -> [(&'static str, String); 12] {
        [
            ("", self.name),
            (".o", self.object),
            (".p", self.possessive),
            (".he", self.pronouns[0].to_owned()),
            (".him", self.pronouns[1].to_owned()),
            (".his", self.pronouns[2].to_owned()),
            (".self", self.pronouns[3].to_owned()),
            (".kind", self.kind),
            (".the", self.the),
            (".intro", self.intro),
            (".open", self.opening),
            (".trait", self.trait_),
        ]
    }
}

fn possessive(name: &str) -> String {
    if name.ends_with('s') {
        format!("{name}'")
    } else {
        format!("{name}'s")
    }
}

impl Scene<'_> {
    /// Binds `prefix` (subject) and `prefix.o .p .he .him .his .self .kind .the .intro .open .trait`.
    ///
    /// # Errors
    /// An unknown class, or a grammar without the lists that names are drawn from.
    pub(crate) fn bind_character(&mut self, prefix: &str, class: &str) -> Result<()> {
        if self.is_bound(prefix) {
            return Ok(());
        }
        let mut character = draw(self, prefix, class)?;
        // Two foxes or two Annas in one story would be hard to tell apart.
        for _ in 0..8 {
            if !is_twin(self, &character) {
                break;
            }
            character = draw(self, prefix, class)?;
        }
        for (field, value) in character.fields() {
            self.bind(&format!("{prefix}{field}"), value);
        }
        if prefix == "h" {
            bind_tale(self)
        } else {
            Ok(())
        }
    }
}

/// Whether the hero has the name or the kind of a character.
fn is_twin(scene: &Scene<'_>, character: &Character) -> bool {
    let same_kind = |kind: String| kind == character.kind && !HUMAN.contains(&kind.as_str());
    scene.get("h").is_some_and(|name| name == character.name)
        || scene.get("h.kind").is_some_and(same_kind)
}

/// What a hero settles for the whole tale: who "they" are, the season, what the hero's trait shows
/// itself in (`{habit}`, `{praise}`).
fn bind_tale(scene: &mut Scene<'_>) -> Result<()> {
    let we = scene.get("h").is_some_and(|name| name == "I");
    let forms = if we {
        ["we", "us", "our"]
    } else {
        ["they", "them", "their"]
    };
    for (slot, form) in ["they", "them", "their"].into_iter().zip(forms) {
        scene.bind(slot, form.to_owned());
    }
    let season = scene.expand("{season}")?;
    scene.bind("season", season);
    let trait_ = scene.get("h.trait").unwrap_or_default();
    scene.bind("trait", trait_);
    scene.pick("character", None)
}

fn draw(scene: &mut Scene<'_>, prefix: &str, class: &str) -> Result<Character> {
    if let Some(kind) = scene.get(&format!("{prefix}.wish")) {
        return of_kind(scene, &kind);
    }
    // The other one's pronoun, so that "he" and "she" tell two characters apart.
    let taken = scene.get("h.he").unwrap_or_default();
    let female = match taken.as_str() {
        "she" => scene.chance(12),
        "he" => scene.chance(88),
        _ => scene.chance(50),
    };
    let roll = scene.below(100);
    match class {
        "any" if roll < 38 => child(scene, female),
        "any" if roll < 63 => animal(scene, female, None),
        "any" if roll < 75 => adult(scene, female),
        "any" if roll < 82 => relative(scene, female),
        "any" if roll < 90 => fantasy(scene, female, None),
        "any" => Ok(first_person(scene, female)),
        "other" if roll < 45 => child(scene, female),
        "other" if roll < 75 => animal(scene, female, None),
        "other" if roll < 92 => adult(scene, female),
        "other" => fantasy(scene, female, None),
        "person" if roll < 55 => child(scene, female),
        "person" if roll < 75 => adult(scene, female),
        "person" if roll < 87 => relative(scene, female),
        "person" => Ok(first_person(scene, female)),
        "child" => child(scene, female),
        "young" if roll < 75 => child(scene, female),
        "young" if roll < 88 => animal(scene, female, None),
        "young" => Ok(first_person(scene, female)),
        "animal" => animal(scene, female, None),
        "adult" => adult(scene, female),
        "relative" => relative(scene, female),
        "fantasy" => fantasy(scene, female, None),
        other => bail!("unknown class of character `{other}`"),
    }
}

/// A character of the kind that a reader asked for: an animal or a being of tales.
fn of_kind(scene: &mut Scene<'_>, kind: &str) -> Result<Character> {
    let female = scene.chance(50);
    match kind {
        "girl" => child(scene, true),
        "boy" => child(scene, false),
        _ if scene.has_item("being", kind) => fantasy(scene, female, Some(kind)),
        _ => animal(scene, female, Some(kind)),
    }
}

/// A name from the lists, or one in twelve a made-up name, so that copying is learnt and not only
/// the names of the lists.
fn given_name(scene: &mut Scene<'_>, female: bool) -> Result<String> {
    if !scene.chance(8) {
        return scene.expand(if female { "{girl-name}" } else { "{boy-name}" });
    }
    scene.expand(if female {
        "{Syllable-first}{syllable-girl}"
    } else {
        "{Syllable-first}{syllable-boy}"
    })
}

fn child(scene: &mut Scene<'_>, female: bool) -> Result<Character> {
    let kind = if female { "girl" } else { "boy" };
    let the = format!("the {kind}");
    let trait_ = scene.expand("{trait}")?;
    let size = scene.expand("[little|young|small|little]")?;
    let adjective = if scene.chance(50) {
        size.clone()
    } else {
        trait_.clone()
    };
    // One child in five has no name.
    let named = !scene.chance(20);
    let name = if named {
        given_name(scene, female)?
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
        intro: scene.with_article(&format!("{adjective} {kind}{tail}"))?,
        opening: if named {
            name.clone()
        } else {
            format!("the {size} {kind}")
        },
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn animal(scene: &mut Scene<'_>, female: bool, kind: Option<&str>) -> Result<Character> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => scene.expand("{animal}")?,
    };
    being(
        scene,
        female,
        kind,
        "{pet-name}",
        "[little|small|young|old|{trait}|{trait}|{fur}|{fur}]",
    )
}

fn fantasy(scene: &mut Scene<'_>, female: bool, kind: Option<&str>) -> Result<Character> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => scene.expand("{being}")?,
    };
    let female = match kind.as_str() {
        "princess" | "queen" | "mermaid" | "witch" | "fairy" => true,
        "prince" | "king" | "knight" | "wizard" | "giant" => false,
        _ => female,
    };
    being(
        scene,
        female,
        kind,
        "{pet-name}",
        "[little|young|old|{trait}|{trait}]",
    )
}

fn being(
    scene: &mut Scene<'_>,
    female: bool,
    kind: String,
    names: &str,
    adjectives: &str,
) -> Result<Character> {
    let trait_ = scene.expand("{trait}")?;
    let adjective = scene.expand(&adjectives.replace("{trait}", &trait_))?;
    let the = format!("the {kind}");
    let named = scene.chance(40);
    let name = match (named, scene.chance(20)) {
        (true, true) => given_name(scene, female)?,
        (true, false) => scene.expand(names)?,
        _ => the.clone(),
    };
    let tail = if named {
        format!(" [named|called] {name}")
    } else {
        String::new()
    };
    let intro = scene.with_article(&format!("{adjective} {kind}{tail}"))?;
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

fn adult(scene: &mut Scene<'_>, female: bool) -> Result<Character> {
    let kind = scene.expand("{job}")?;
    let female = female && !kind.ends_with("man");
    let trait_ = scene.expand("{trait}")?;
    let adjective = scene.expand(&format!("[old|young|{trait_}|{trait_}]"))?;
    let the = format!("the {kind}");
    let (name, tail) = match scene.below(4) {
        0 => {
            let title = if female { "Mrs." } else { "Mr." };
            let name = scene.expand(&format!("{title} {{surname}}"))?;
            let tail = format!(" [named|called] {name}");
            (name, tail)
        }
        1 => {
            let name = given_name(scene, female)?;
            let tail = format!(" [named|called] {name}");
            (name, tail)
        }
        _ => (the.clone(), String::new()),
    };
    let intro = scene.with_article(&format!("{adjective} {kind}{tail}"))?;
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

fn relative(scene: &mut Scene<'_>, female: bool) -> Result<Character> {
    let kind = scene.expand(if female { "{kin-woman}" } else { "{kin-man}" })?;
    let name = format!("my {kind}");
    let trait_ = scene.expand("{trait}")?;
    Ok(Character {
        trait_,
        ..Character::new(name, kind, female)
    })
}

fn first_person(scene: &mut Scene<'_>, female: bool) -> Character {
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
        trait_: scene.expand("{trait}").unwrap_or_default(),
    }
}
