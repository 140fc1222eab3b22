//! JSON Schema, as much of it as the OpenAPI document is written in.
//!
//! A keyword that is not known here fails the test, so nothing is passed over in silence. What texts look
//! like (`pattern`, `format`) is left to schemathesis, which knows all of JSON Schema: the crates that do
//! change the features of half the tree, for the tests alone.

use serde_json::{Map, Value};

/// Everything that is wrong with `value`, by the schema at `pointer` of the document.
pub(crate) fn faults(document: &Value, pointer: &str, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let schema = document.pointer(pointer).unwrap_or_else(|| panic!("no schema at {pointer}"));
    Judge { document, faults: &mut faults }.judge(schema, value, "");
    faults
}

struct Judge<'a> {
    document: &'a Value,
    faults: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn judge(&mut self, schema: &Value, value: &Value, at: &str) {
        let Value::Object(keywords) = schema else {
            self.demand(schema != &Value::Bool(false), at, "must not be there");
            return;
        };
        for (keyword, rule) in keywords {
            match keyword.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().trim_start_matches('#');
                    let found = self.document.pointer(pointer);
                    self.judge(
                        found.unwrap_or_else(|| panic!("no schema at {pointer}")),
                        value,
                        at,
                    );
                }
                "type" => self.demand(is_of(rule, value), at, &format!("is not of type {rule}")),
                "const" => self.demand(rule == value, at, &format!("is not {rule}")),
                "enum" => {
                    let is_one = rule.as_array().unwrap().contains(value);
                    self.demand(is_one, at, &format!("is none of {rule}"));
                }
                "minimum" | "maximum" => {
                    if let (Some(number), Some(limit)) = (value.as_f64(), rule.as_f64()) {
                        let fits =
                            if keyword == "minimum" { number >= limit } else { number <= limit };
                        self.demand(fits, at, &format!("is beyond the {keyword} {limit}"));
                    }
                }
                "allOf" => {
                    for part in rule.as_array().unwrap() {
                        self.judge(part, value, at);
                    }
                }
                "anyOf" | "oneOf" => {
                    let fits = |part: &&Value| {
                        let mut faults = Vec::new();
                        Judge { document: self.document, faults: &mut faults }
                            .judge(part, value, at);
                        faults.is_empty()
                    };
                    let fitting = rule.as_array().unwrap().iter().filter(fits).count();
                    let is_good = fitting == 1 || (keyword == "anyOf" && fitting > 1);
                    self.demand(is_good, at, &format!("fits {fitting} of {keyword}"));
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.judge(rule, item, &format!("{at}/{index}"));
                    }
                }
                "properties" | "required" | "additionalProperties" => {
                    if let Value::Object(members) = value {
                        self.members(keyword, keywords, members, at);
                    }
                }
                "description" | "title" | "default" | "format" | "pattern" | "minLength"
                | "maxLength" => {}
                other => panic!("the keyword {other} is not known here: {schema}"),
            }
        }
    }

    fn members(
        &mut self,
        keyword: &str,
        keywords: &Map<String, Value>,
        members: &Map<String, Value>,
        at: &str,
    ) {
        let rule = &keywords[keyword];
        match keyword {
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(member) = members.get(name) {
                        self.judge(schema, member, &format!("{at}/{name}"));
                    }
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    let name = name.as_str().unwrap();
                    self.demand(members.contains_key(name), at, &format!("has no {name}"));
                }
            }
            _ => {
                let known = keywords.get("properties").and_then(Value::as_object);
                for (name, member) in members {
                    if !known.is_some_and(|known| known.contains_key(name)) {
                        self.judge(rule, member, &format!("{at}/{name}"));
                    }
                }
            }
        }
    }

    fn demand(&mut self, holds: bool, at: &str, what: &str) {
        if !holds {
            self.faults.push(format!("`{at}` {what}"));
        }
    }
}

fn is_of(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other} is not known here"),
    };
    kinds.as_array().map_or_else(|| is(kinds), |kinds| kinds.iter().any(is))
}
