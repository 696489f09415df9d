//! A policy file as `serde_yaml` reads it: these types are the file format, strict
//! about keys and words. They hold what was said and not where; [`super::decode`]
//! joins them with the places, [`super::check`] words the mistakes.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::{
    BorrowedStrDeserializer, MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer,
};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::model::{Action, FailOn, Mode, RootBase, Run, Verdict, Verify};
use super::package::PackageKey;
use super::quantity;

/// One policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PolicyFile {
    pub(super) version: FormatVersion,
    #[serde(default)]
    pub(super) extends: OneOrMany<Box<str>>,
    pub(super) mode: Option<Mode>,
    #[serde(default)]
    pub(super) scripts: SectionFile,
    #[serde(default)]
    pub(super) root: RootFile,
    #[serde(default)]
    pub(super) manager: SectionFile,
    #[serde(default)]
    pub(super) packages: PackageFiles,
    pub(super) fail_on: Option<OneOrMany<FailOn>>,
}

/// The rules of one action; `E` is what its lists hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "E: Deserialize<'de>"))]
pub(super) struct RuleFile<E = Box<str>> {
    pub(super) default: Option<Verdict>,
    #[serde(default = "Vec::new")]
    pub(super) allow: Vec<E>,
    #[serde(default = "Vec::new")]
    pub(super) log: Vec<E>,
    #[serde(default = "Vec::new")]
    pub(super) deny: Vec<E>,
}

/// An entry of a `connect` list: a pattern, or a mapping that says more about it.
#[derive(Debug)]
pub(super) enum ConnectEntry {
    Pattern(Box<str>),
    Terms(ConnectTerms),
}

/// `{ host: …, verify: sni }` or `{ host: …, expected: true }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectTerms {
    pub(super) host: Box<str>,
    pub(super) verify: Option<Verify>,
    pub(super) expected: Option<Expected>,
}

/// `true` or `false`, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    True,
    False,
}

impl<'de> Deserialize<'de> for ConnectEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ConnectEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pattern or a mapping with `host`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ConnectEntry::Pattern(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ConnectTerms::deserialize(MapAccessDeserializer::new(map)).map(ConnectEntry::Terms)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// What scripts may use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LimitsFile {
    pub(super) wall: Option<Limit<Duration>>,
    pub(super) processes: Option<Limit<Count>>,
    pub(super) file_size: Option<Limit<Size>>,
    pub(super) open_files: Option<Limit<Count>>,
}

/// A section without what only one kind of section has.
pub(super) struct Common {
    pub(super) actions: [(Action, Option<Box<RuleFile>>); 4],
    pub(super) connect: Option<Box<RuleFile<ConnectEntry>>>,
    pub(super) limits: Option<Box<LimitsFile>>,
}

// `flatten` would give up the strictness about keys, so the common fields are written out.
macro_rules! section_file {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $field: Option<$type>,)*
            read: Option<Box<RuleFile>>,
            write: Option<Box<RuleFile>>,
            exec: Option<Box<RuleFile>>,
            connect: Option<Box<RuleFile<ConnectEntry>>>,
            env: Option<Box<RuleFile>>,
            limits: Option<Box<LimitsFile>>,
        }

        impl From<$name> for Common {
            fn from(file: $name) -> Self {
                let actions = [
                    (Action::Read, file.read),
                    (Action::Write, file.write),
                    (Action::Exec, file.exec),
                    (Action::Env, file.env),
                ];
                Self { actions, connect: file.connect, limits: file.limits }
            }
        }
    };
}

section_file! {
    /// `scripts` or `manager`.
    SectionFile {}
}

section_file! {
    /// `root`.
    RootFile { extends: RootBase }
}

section_file! {
    /// One entry of `packages`.
    PackageFile { reason: Box<str>, run: Run }
}

/// The one version of the format, written `1`.
#[derive(Debug)]
pub(super) struct FormatVersion;

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "1" => Ok(Self),
            other => Err(D::Error::custom(format_args!("unknown policy version `{other}`"))),
        }
    }
}

/// A value, or a list of values.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(vec![T::deserialize(StrDeserializer::new(text))?])
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(vec![T::deserialize(BorrowedStrDeserializer::new(text))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }

        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

/// The entries of `packages` in the order of the file.
#[derive(Debug, Default)]
pub(super) struct PackageFiles(pub(super) Vec<(PackageKey, PackageFile)>);

impl<'de> Deserialize<'de> for PackageFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(PackageKey, PackageFile)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of package names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(Entries).map(Self)
    }
}

impl<'de> Deserialize<'de> for PackageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;

        impl Visitor<'_> for Key {
            type Value = PackageKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a package name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PackageKey, E> {
                PackageKey::parse(text).map_err(|(message, _)| E::custom(message))
            }
        }

        deserializer.deserialize_str(Key)
    }
}

/// A limit, or `none`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String", bound = "Q: Quantity")]
pub(super) struct Limit<Q>(pub(super) Option<Q>);

/// What can be limited.
pub(super) trait Quantity: Sized {
    fn read(text: &str) -> Option<Self>;
}

/// A number of things.
#[derive(Debug)]
pub(super) struct Count(pub(super) u64);

/// A number of bytes.
#[derive(Debug)]
pub(super) struct Size(pub(super) u64);

impl Quantity for Duration {
    fn read(text: &str) -> Option<Self> {
        quantity::duration(text)
    }
}

impl Quantity for Count {
    fn read(text: &str) -> Option<Self> {
        quantity::count(text).map(Self)
    }
}

impl Quantity for Size {
    fn read(text: &str) -> Option<Self> {
        quantity::size(text).map(Self)
    }
}

impl<Q: Quantity> TryFrom<String> for Limit<Q> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        Q::read(&text).map(|value| Self(Some(value))).ok_or_else(|| format!("`{text}` is not a limit"))
    }
}
