//! JSON Schemas that core's own check can carry out: documents of which every keyword has a place in its [`Node`].
//! Such an event is checked in one walk over its bytes. In a build with all of JSON Schema, values of schemas with
//! further keywords are given to its validator, and the rest of the event stays with the walk.

use serde_json::{Map, Value};
use sluice_core::schema::Check;
use sluice_core::schema::shape::{
    Choices, EXACT_MAX, Limit, NAME_BYTES_MAX, Node, Others, ShapeError, Types,
};
use std::sync::Arc;

/// Versions of JSON Schema in which the keywords that are built in mean the same, and whether `format` and what is
/// said of contents decide about events. The first is meant where none is named.
const DIALECTS: [(&str, bool); 4] = [
    ("https://json-schema.org/draft/2020-12/schema", false),
    ("https://json-schema.org/draft/2019-09/schema", false),
    ("http://json-schema.org/draft-07/schema", true),
    ("http://json-schema.org/draft-06/schema", true),
];

/// Those keywords.
const CONTENTS: [&str; 3] = ["contentEncoding", "contentMediaType", "format"];

/// Subschemas inside each other.
const DEPTH_MAX: usize = 32;

/// Subschemas in all, those counted again that are referred to again.
const NODES_MAX: usize = 4_096;

/// Parts of a document that another validator judges. With more, it judges the whole.
const DELEGATES_MAX: usize = 64;

/// Keywords that say nothing about which events are valid.
const ANNOTATIONS: [&str; 15] = [
    "$anchor",
    "$comment",
    "$defs",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "examples",
    "format",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords that decide about events and have no place in a node. What is in no list is no keyword of JSON Schema,
/// and without a meaning.
const BEYOND: [&str; 24] = [
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
    "allOf",
    "anyOf",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
];

/// Why a document is not built in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Beyond {
    /// The place in the document, as a JSON Pointer behind `#`.
    pub at: String,
    /// What stands there.
    pub why: String,
}

/// Makes a check of the schema at a place of the document, if there is a validator for all of JSON Schema.
pub(super) type Delegate<'d> = &'d dyn Fn(&str) -> Option<Arc<dyn Check>>;

/// The check of a document.
///
/// # Errors
/// It needs a validator that knows all of JSON Schema.
pub(super) fn node(document: &Value, delegate: Delegate<'_>) -> Result<Node, Beyond> {
    let mut reading = Reading {
        document,
        delegate,
        nodes_left: NODES_MAX,
        asserts_contents: false,
        delegates_left: if is_one_resource(document, true) {
            DELEGATES_MAX
        } else {
            0
        },
    };
    reading.schema(document, "#", DEPTH_MAX)
}

/// Whether the meaning of a part does not depend on the way to it.
fn is_one_resource(value: &Value, is_root: bool) -> bool {
    match value {
        Value::Array(list) => list.iter().all(|value| is_one_resource(value, false)),
        Value::Object(members) => members.iter().all(|(name, value)| {
            let changes_scope = name.starts_with("$dynamic")
                || name.starts_with("$recursive")
                || (name == "$id" && !is_root);
            !changes_scope && is_one_resource(value, false)
        }),
        _ => true,
    }
}

struct Reading<'d> {
    document: &'d Value,
    delegate: Delegate<'d>,
    asserts_contents: bool,
    nodes_left: usize,
    delegates_left: usize,
}

fn beyond<T>(at: &str, why: impl Into<String>) -> Result<T, Beyond> {
    Err(Beyond {
        at: at.to_owned(),
        why: why.into(),
    })
}

/// A keyword's value of another type than JSON Schema wants.
fn ill<T>(at: &str, keyword: &str) -> Result<T, Beyond> {
    beyond(at, format!("the value of `{keyword}` makes no sense"))
}

impl Reading<'_> {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Node, Beyond> {
        let left = self.nodes_left.checked_sub(1);
        let Some((left, depth)) = left.zip(depth.checked_sub(1)) else {
            return beyond(
                at,
                format!("over {DEPTH_MAX} schemas inside each other, or over {NODES_MAX} in all"),
            );
        };
        self.nodes_left = left;
        match schema {
            Value::Bool(true) => Ok(Node::default()),
            Value::Bool(false) => {
                let mut node = Node::default();
                node.types = Types::NONE;
                Ok(node)
            }
            Value::Object(keywords) => {
                let left = (self.nodes_left, self.delegates_left);
                let beyond = match self.keywords(keywords, at, depth) {
                    Err(beyond) if at != "#" => beyond,
                    result => return result,
                };
                (self.nodes_left, self.delegates_left) = left;
                self.delegated(at).ok_or(beyond)
            }
            _ => beyond(at, "a schema is an object, `true` or `false`"),
        }
    }

    /// A node that leaves its value to the other validator.
    fn delegated(&mut self, at: &str) -> Option<Node> {
        self.delegates_left = self.delegates_left.checked_sub(1)?;
        let mut node = Node::default();
        node.beyond = Some((self.delegate)(at)?);
        Some(node)
    }

    fn keywords(
        &mut self,
        keywords: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Result<Node, Beyond> {
        let mut node = Node::default();
        if let Some(dialect) = keywords.get("$schema") {
            let dialect = dialect.as_str().map(|uri| uri.trim_end_matches('#'));
            let mut known = DIALECTS.iter();
            let Some((_, asserts)) = known.find(|(known, _)| dialect == Some(known)) else {
                return beyond(
                    at,
                    "a `$schema` of another draft than 2020-12, 2019-09, 7 and 6",
                );
            };
            self.asserts_contents |= asserts;
        }
        let mut wants: Vec<(&str, &Value)> = Vec::new();
        for (keyword, value) in keywords {
            let keyword = keyword.as_str();
            match keyword {
                "$id" if at == "#" => {}
                "$id" => return beyond(at, "`$id` inside of a document"),
                "uniqueItems" | "unevaluatedProperties" => match (keyword, value) {
                    ("uniqueItems", Value::Bool(false)) => {}
                    _ => return beyond(at, format!("`{keyword}`")),
                },
                _ if self.asserts_contents && CONTENTS.contains(&keyword) => {
                    return beyond(at, format!("`{keyword}`, which decides in this draft"));
                }
                _ if ANNOTATIONS.contains(&keyword) => {}
                _ if BEYOND.contains(&keyword) => return beyond(at, format!("`{keyword}`")),
                _ => wants.push((keyword, value)),
            }
        }
        let is_assertion = |(keyword, _): &&(&str, &Value)| is_known(keyword);
        if let Some(target) = keywords.get("$ref") {
            if wants.iter().filter(is_assertion).count() > 1 {
                return beyond(at, "`$ref` beside other keywords");
            }
            return self.reference(target, at, depth);
        }
        // Members have to be known before those are required.
        wants.sort_by_key(|(keyword, _)| *keyword == "required");
        for (keyword, value) in wants {
            self.keyword(&mut node, keyword, value, (at, depth))?;
        }
        Ok(node)
    }

    /// Only within the document.
    fn reference(&mut self, target: &Value, at: &str, depth: usize) -> Result<Node, Beyond> {
        let pointer = target.as_str().and_then(|target| target.strip_prefix('#'));
        let is_plain = |pointer: &&str| {
            (pointer.is_empty() || pointer.starts_with('/')) && !pointer.contains('%')
        };
        let document = self.document;
        match pointer.filter(is_plain) {
            Some(pointer) => match document.pointer(pointer) {
                // Where the target has an `$id`, it and what it refers to mean something else.
                Some(schema) => self.schema(schema, &format!("#{pointer}"), depth),
                None => beyond(at, format!("`$ref` leads nowhere: {target}")),
            },
            None => beyond(at, format!("`$ref` leads out of the document: {target}")),
        }
    }

    fn keyword(
        &mut self,
        node: &mut Node,
        keyword: &str,
        value: &Value,
        (at, depth): (&str, usize),
    ) -> Result<(), Beyond> {
        let count = || match whole(value) {
            Some(count) => Ok(count),
            None => ill(at, keyword),
        };
        let limit = |known: Option<Limit>, is_exclusive| match number(value) {
            Some(_) if known.is_some() => beyond(at, "two bounds on one side"),
            Some(value) => Ok(Some(Limit {
                value,
                is_exclusive,
            })),
            None => ill(at, keyword),
        };
        match keyword {
            "type" => node.types = types(value).map_or_else(|| ill(at, keyword), Ok)?,
            "minLength" => node.chars.min = count()?,
            "maxLength" => node.chars.max = count()?,
            "minItems" => node.elements.min = count()?,
            "maxItems" => node.elements.max = count()?,
            "minProperties" => node.members.min = count()?,
            "maxProperties" => node.members.max = count()?,
            "minimum" => node.least = limit(node.least, false)?,
            "exclusiveMinimum" => node.least = limit(node.least, true)?,
            "maximum" => node.most = limit(node.most, false)?,
            "exclusiveMaximum" => node.most = limit(node.most, true)?,
            "enum" | "const" => {
                if node.one_of.is_some() {
                    return beyond(at, "`enum` and `const`");
                }
                let list = match value {
                    Value::Array(list) if keyword == "enum" => &list[..],
                    _ if keyword == "const" => std::slice::from_ref(value),
                    _ => return ill(at, keyword),
                };
                node.one_of = Some(choices(list).map_or_else(
                    || {
                        beyond(
                            at,
                            format!("`{keyword}` of long texts, large numbers, arrays or objects"),
                        )
                    },
                    Ok,
                )?);
            }
            "items" => {
                let inside = self.schema(value, &format!("{at}/items"), depth)?;
                node.element = Some(Box::new(inside));
            }
            "additionalProperties" => {
                let inside = self.schema(value, &format!("{at}/{keyword}"), depth)?;
                node.others = match value {
                    Value::Bool(true) => Others::Allowed,
                    Value::Bool(false) => Others::Refused,
                    _ => Others::Are(Box::new(inside)),
                };
            }
            "properties" => {
                let Value::Object(members) = value else {
                    return ill(at, keyword);
                };
                for (name, schema) in members {
                    let at = format!(
                        "{at}/properties/{}",
                        name.replace('~', "~0").replace('/', "~1")
                    );
                    let inside = self.schema(schema, &at, depth)?;
                    *fits(node.property(name), &at)? = inside;
                }
            }
            "required" => {
                let Value::Array(names) = value else {
                    return ill(at, keyword);
                };
                for name in names {
                    let Value::String(name) = name else {
                        return ill(at, keyword);
                    };
                    if !node.has_property(name) {
                        let inside = match &node.others {
                            Others::Allowed => Node::default(),
                            Others::Are(inside) => (**inside).clone(),
                            Others::Refused => {
                                return beyond(
                                    at,
                                    format!("`{name}` is required, and not allowed"),
                                );
                            }
                        };
                        *fits(node.property(name), at)? = inside;
                    }
                    fits(node.require(name), at)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn fits<T>(result: Result<T, ShapeError>, at: &str) -> Result<T, Beyond> {
    result.or_else(|error| beyond(at, error.to_string()))
}

/// Whether [`Reading::keyword`] knows it.
fn is_known(keyword: &str) -> bool {
    const KNOWN: [&str; 18] = [
        "$ref",
        "additionalProperties",
        "const",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "properties",
        "required",
        "type",
    ];
    KNOWN.contains(&keyword)
}

fn types(value: &Value) -> Option<Types> {
    let named = |value: &Value| Types::named(value.as_str()?);
    match value {
        Value::Array(list) if !list.is_empty() => {
            let mut list = list.iter();
            list.try_fold(Types::NONE, |all, one| Some(all | named(one)?))
        }
        value => named(value),
    }
}

/// A count, which may be written as `2.0`.
fn whole(value: &Value) -> Option<u64> {
    let number = number(value)?;
    let is_count = number >= 0.0 && number.fract() == 0.0;
    is_count.then_some(number as u64)
}

/// A number that compares exactly.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.abs() < EXACT_MAX)
}

fn choices(list: &[Value]) -> Option<Choices> {
    let mut choices = Choices::default();
    for value in list {
        match value {
            Value::Null => choices.null(),
            Value::Bool(value) => choices.boolean(*value),
            Value::Number(_) => choices.number(number(value)?),
            Value::String(text) if text.len() <= NAME_BYTES_MAX => choices.text(text),
            _ => return None,
        }
    }
    Some(choices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sluice_core::schema::Check;

    fn refused(document: Value) -> String {
        node(&document, &|_| None).unwrap_err().to_string()
    }

    #[test]
    fn documents_of_usual_keywords_are_built_in() {
        let document = json!({
            "$schema": DIALECTS[0].0,
            "$id": "https://schemas.example/order.json",
            "$defs": {"money": {"type": "number", "minimum": 0, "exclusiveMaximum": 1e6}},
            "type": "object",
            "required": ["id", "total", "extra"],
            "properties": {
                "id": {"type": "string", "format": "uuid", "minLength": 36, "maxLength": 36},
                "total": {"$ref": "#/$defs/money", "description": "with tax"},
                "lines": {"type": "array", "minItems": 1.0, "items": {"properties": {"sku": {"enum": ["a", 1, null]}}}},
            },
            "additionalProperties": {"type": ["integer", "null"]},
            "x-owner": "shop",
        });
        let node = node(&document, &|_| None).unwrap();
        let id = "0".repeat(36);
        let mut event = json!({"id": id, "total": 5.5, "extra": 1, "lines": [{"sku": "a"}]});
        assert_eq!(node.check(event.to_string().as_bytes()), Ok(()));
        for (at, value, path) in [
            ("/total", json!(1e6), "/total"),
            ("/lines", json!([]), "/lines"),
            ("/lines/0/sku", json!("b"), "/lines/0/sku"),
            ("/extra", json!("x"), "/extra"),
        ] {
            let before = std::mem::replace(event.pointer_mut(at).unwrap(), value);
            let violation = node.check(event.to_string().as_bytes()).unwrap_err();
            assert_eq!(violation.path, path);
            *event.pointer_mut(at).unwrap() = before;
        }
    }

    #[test]
    fn keywords_beyond_the_walk_are_named_with_their_place() {
        let inside = |schema: Value| refused(json!({"properties": {"a/b": schema}}));
        assert_eq!(
            inside(json!({"pattern": "^a"})),
            "#/properties/a~1b: `pattern`"
        );
        for keyword in BEYOND {
            assert!(refused(json!({ keyword: 1 })).ends_with(&format!("`{keyword}`")));
        }
        let message = refused(json!({"$schema": "http://json-schema.org/draft-04/schema#"}));
        assert!(message.contains("another draft"), "{message}");
        let old = "http://json-schema.org/draft-07/schema#";
        assert!(node(&json!({"$schema": old, "type": "object"}), &|_| None).is_ok());
        let message = refused(json!({"$schema": old, "items": {"format": "date"}}));
        assert!(
            message.contains("#/items: `format`, which decides"),
            "{message}"
        );
        for (document, part) in [
            (json!({"minLength": "x"}), "`minLength` makes no sense"),
            (json!({"minLength": -1}), "`minLength` makes no sense"),
            (json!({"type": "text"}), "`type` makes no sense"),
            (json!({"$ref": "#"}), "inside each other"),
            (json!({"$ref": "other.json"}), "out of the document"),
            (json!({"$ref": "#/$defs/a"}), "nowhere"),
            (json!({"items": {"$id": "x"}}), "`$id` inside"),
            (json!({"const": {}}), "`const` of"),
            (json!({"maximum": 1e300}), "`maximum` makes no sense"),
            (json!({"uniqueItems": true}), "`uniqueItems`"),
            (json!({"minimum": 1, "exclusiveMinimum": 1}), "two bounds"),
            (json!(1), "a schema is"),
        ] {
            let message = refused(document);
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn references_that_double_are_bounded() {
        let mut defs = Map::new();
        for at in 0..30 {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            defs.insert(
                format!("d{at}"),
                json!({"properties": {"a": next, "b": next}}),
            );
        }
        defs.insert("d30".to_owned(), json!({}));
        let message = refused(json!({"$ref": "#/$defs/d0", "$defs": defs}));
        assert!(message.contains("over 4096 in all"), "{message}");
    }
}
