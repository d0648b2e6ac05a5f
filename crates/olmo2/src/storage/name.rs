//! Names of dtypes and formats: shown, parsed and serialized with one spelling.

use thiserror::Error;

/// A name that is not the name of a dtype or format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {expected}, found `{found}`")]
pub struct UnknownFormat {
    /// The names there are, as a list in words.
    pub expected: String,
    /// The name that was given.
    pub found: String,
}

/// Finds the value whose name is `found`.
pub(super) fn parse<T: Copy>(
    values: &[T],
    name: impl Fn(T) -> &'static str,
    found: &str,
) -> Result<T, UnknownFormat> {
    let value = values.iter().find(|&&value| name(value) == found);
    value.copied().ok_or_else(|| {
        let names: Vec<&str> = values.iter().map(|&value| name(value)).collect();
        UnknownFormat {
            expected: one_of(&names),
            found: found.to_owned(),
        }
    })
}

/// `f32, bf16 or f16`.
pub(crate) fn one_of<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names[..] {
        [] => "nothing".into(),
        [only] => only.into(),
        [ref first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `Display`, `FromStr` and serde by the names of a type's values.
macro_rules! by_name {
    ($type:ty, $all:expr) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::storage::name::UnknownFormat;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::storage::name::parse(&$all, Self::name, name)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(super) use by_name;
