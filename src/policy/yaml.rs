//! Where everything in a YAML text stands: a tree in which every key and value knows
//! its line and column, for messages and for the origin of rules. It is also the gate
//! before [`super::decode`]: anchors, aliases, tags, duplicate keys, deep nesting and
//! second documents are refused, so nothing can expand beyond the file's own size.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::error::Problem;

/// Deepest nesting of a policy; the language itself needs six levels.
const MAX_DEPTH: usize = 12;

/// Up to this many keys are compared one by one.
const FEW: usize = 16;

/// A place in a file: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self { line: narrow(marker.line()), column: narrow(marker.col().saturating_add(1)) }
    }
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) at: Position,
    pub(super) value: Value<'a>,
}

/// What stands there.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// A key of a mapping and its place.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) at: Position,
}

impl Node<'_> {
    /// The value of a key.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether it is this text.
    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(&self.value, Value::Text(read) if **read == *text)
    }

    /// The items of a list; what is no list is its own only item.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// What the value is called in messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Parses one document; an empty file is `Null`.
pub(super) fn parse<'a>(file: &str, text: &'a str) -> Result<Node<'a>, Problem> {
    let mut tree = Tree { file, parser: Parser::new_from_str(text) };
    let mut root = None;
    while let Some((event, span)) = tree.next()? {
        match event {
            Event::DocumentStart(_) if root.is_some() => {
                return Err(tree.problem(
                    span.start.into(),
                    "a second document begins here".into(),
                    "a policy file holds one document: remove the `---` and what follows, or use `extends`"
                        .into(),
                ));
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Nothing => {}
            other => root = Some(tree.node(other, span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { at: Position { line: 1, column: 1 }, value: Value::Null }))
}

struct Tree<'f, 'a> {
    file: &'f str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

const QUOTE_HINT: &str = "patterns and names that begin with `*`, `@`, `{`, `[`, `!`, `&` or `%` must be \
                          quoted, for example `\"{package}/**\"`";

impl<'a> Tree<'_, 'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Problem> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => Err(self.problem(
                (*error.marker()).into(),
                format!("this is not valid YAML: {}", error.info()),
                QUOTE_HINT.into(),
            )),
        }
    }

    fn problem(&self, at: Position, message: String, hint: String) -> Problem {
        Problem { file: self.file.into(), line: at.line, column: at.column, message, hint: Some(hint) }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node<'a>, Problem> {
        let at = Position::from(span.start);
        if depth > MAX_DEPTH {
            return Err(self.problem(
                at,
                format!("nested more than {MAX_DEPTH} levels deep"),
                "no part of a policy is nested this deeply".into(),
            ));
        }
        let (anchor, tagged) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(anchor) => (*anchor, false),
            _ => (0, false),
        };
        if anchor != 0 {
            return Err(self.problem(
                at,
                "anchors (`&name`) and aliases (`*name`) are not part of the policy language".into(),
                format!("write the value out, or share it through `extends`; {QUOTE_HINT}"),
            ));
        }
        if tagged {
            return Err(self.problem(
                at,
                "tags (`!name`) are not part of the policy language".into(),
                QUOTE_HINT.into(),
            ));
        }
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null") => Value::Null,
            Event::Scalar(text, ..) => Value::Text(text),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => Value::Null,
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        let mut entries: Vec<(Key<'a>, Node<'a>)> = Vec::new();
        let mut seen: HashMap<Cow<'a, str>, u32> = HashMap::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let node = self.node(event, span, depth + 1)?;
            let at = node.at;
            let text = match node.value {
                Value::Text(text) => text,
                Value::Null => Cow::Borrowed("null"),
                _ => {
                    return Err(self.problem(
                        at,
                        format!("a key is {}, but should be a name", node.kind()),
                        QUOTE_HINT.into(),
                    ));
                }
            };
            // A section has a handful of keys; `packages` may have ten thousand.
            let earlier = if entries.len() < FEW {
                entries.iter().find(|(key, _)| key.text == text).map(|(key, _)| key.at.line)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|(key, _)| (key.text.clone(), key.at.line)));
                }
                seen.insert(text.clone(), at.line)
            };
            if let Some(first) = earlier {
                return Err(self.problem(
                    at,
                    format!("duplicate key `{text}`"),
                    format!("the first one is on line {first}: merge the two"),
                ));
            }
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span, depth + 1)?;
            entries.push((Key { text, at }, value));
        }
        Ok(Value::Map(entries))
    }
}
