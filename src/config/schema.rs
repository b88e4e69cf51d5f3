//! The key table as a JSON Schema (2020-12), for editors.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, Measure, Served};
use super::quotes::MAX_QUOTE;

/// The schema of a configuration file.
pub fn schema() -> Value {
    let mut root = table(keys::TOP, false);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".into(), json!("superd.toml"));
    }
    root
}

fn table(keys: &'static [Key], inherits: bool) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .filter(|key| key.service == Served::Now)
        .map(|key| (key.name.to_owned(), property(key, inherits)))
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn property(key: &'static Key, inherits: bool) -> Value {
    let inherits = inherits || matches!(key.name, "defaults" | "service");
    let mut value = match kind(key.kind, inherits) {
        // `[defaults]` and a service's name stand outside of what they hold.
        value if inherits && !matches!(key.name, "defaults" | "service") => {
            json!({ "anyOf": [value, { "const": "none" }] })
        }
        value => value,
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("description".into(), json!(description(key)));
    }
    value
}

fn description(key: &Key) -> String {
    if key.default.is_empty() { key.doc.to_owned() } else { format!("{} Default: {}.", key.doc, key.default) }
}

fn kind(kind: Kind, inherits: bool) -> Value {
    let text = json!({ "type": "string" });
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Interface => json!({ "type": "string", "pattern": "^[^ /%]{1,15}$" }),
        Kind::Text | Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Time | Kind::TimeBetween(..) => duration(),
        Kind::Rate => json!({ "type": "string", "pattern": "^[0-9]{1,7}/(s|min|h)( burst [0-9]{1,7})?$" }),
        Kind::Load => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Kind::Offences => {
            let word = json!({ "type": "string", "pattern": "^(refused|rate|signal|exit:[0-9]{1,3})$" });
            json!({ "type": "array", "minItems": 1, "items": word })
        }
        Kind::WholeSeconds => json!({ "type": "string", "pattern": "^[0-9]+(s|min|h|d)$" }),
        Kind::Size(_) => size(),
        Kind::Octal => json!({ "type": "string", "pattern": "^0{0,2}[0-7]{1,3}$" }),
        Kind::Word(words) | Kind::Words(words, _) => json!({ "enum": words }),
        Kind::WordOrPath(words) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "/" }] })
        }
        Kind::Command => json!({
            "type": "array",
            "minItems": 1,
            "prefixItems": [{ "type": "string", "pattern": "^/" }],
            "items": text,
        }),
        Kind::Variables | Kind::Include => json!({ "type": "array", "items": text }),
        Kind::Clients | Kind::Users | Kind::Files | Kind::Windows | Kind::Exempt => texts(),
        Kind::HoursName => label(),
        Kind::Rows(keys) => json!({ "type": "array", "minItems": 1, "items": rows(keys) }),
        Kind::FlagOr(keys) => json!({ "anyOf": [{ "type": "boolean" }, table(keys, false)] }),
        Kind::Sets => by_label(&json!({ "anyOf": [texts(), rows(keys::SET_FILES)] })),
        Kind::Hours => by_label(&json!({ "anyOf": [texts(), rows(keys::HOURS_TIMES)] })),
        Kind::Environment => json!({ "type": "object", "additionalProperties": text }),
        Kind::User | Kind::Group => who(),
        Kind::Groups => json!({ "type": "array", "items": who() }),
        Kind::Listen => {
            let pattern = "^((tcp|udp)[46]?|unix(-dgram|-seqpacket)?|systemd):";
            let one = json!({ "type": "string", "pattern": pattern });
            let mut path = table(keys::LISTEN_AT, inherits);
            if let Some(path) = path.as_object_mut() {
                path.insert("required".into(), json!(["at"]));
            }
            let one = json!({ "anyOf": [one, path] });
            json!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] })
        }
        Kind::Banner => json!({ "anyOf": [text, file(keys::BANNER_FILE)] }),
        Kind::Quotes => {
            let one = json!({ "type": "string", "minLength": 1, "maxLength": MAX_QUOTE });
            json!({ "anyOf": [{ "type": "array", "minItems": 1, "items": one }, file(keys::QUOTES_FILE)] })
        }
        Kind::Rlimit(_, measure) => rlimit(measure),
        Kind::Table(keys) | Kind::Inline(keys) => table(keys, inherits),
        Kind::Named(keys) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$" },
            "additionalProperties": table(keys, true),
        }),
        Kind::Any => json!({}),
    }
}

/// A table with keys that must be said.
fn rows(keys: &'static [Key]) -> Value {
    let mut table = table(keys, false);
    let required: Vec<&str> =
        keys.iter().filter(|key| key.default == "must be said").map(|key| key.name).collect();
    if let Some(table) = table.as_object_mut() {
        table.insert("required".into(), json!(required));
    }
    table
}

fn texts() -> Value {
    json!({ "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 } })
}

fn label() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })
}

fn by_label(value: &Value) -> Value {
    json!({ "type": "object", "propertyNames": label(), "additionalProperties": value })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+(ms|s|min|h|d)$" })
}

fn size() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+(B|[KMGT]iB|kB|[MGT]B)$" })
}

/// A number stands without quotes, and the highest one means nobody.
fn who() -> Value {
    json!({ "anyOf": [
        { "type": "string", "pattern": "[^0-9]" },
        { "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 },
    ] })
}

fn file(keys: &'static [Key]) -> Value {
    let mut table = table(keys, false);
    if let Some(table) = table.as_object_mut() {
        table.insert("required".into(), json!(["file"]));
    }
    table
}

fn rlimit(measure: Measure) -> Value {
    let one = match measure {
        Measure::Count => json!({ "type": "integer", "minimum": 0 }),
        Measure::Size => size(),
        Measure::Seconds | Measure::Microseconds => duration(),
    };
    let one = json!({ "anyOf": [one, { "const": "unlimited" }] });
    let both = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["soft", "hard"],
        "properties": { "soft": one, "hard": one },
    });
    json!({ "anyOf": [one, both] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_served_key() {
        let schema = schema();
        let service = &schema["properties"]["service"]["additionalProperties"]["properties"];
        for key in keys::SERVICE {
            assert_eq!(service.get(key.name).is_some(), key.service == Served::Now, "{}", key.name);
        }
        assert_eq!(service["nice"]["anyOf"][0]["minimum"], json!(-20));
        assert_eq!(
            schema["properties"]["daemon"]["properties"]["launcher"]["enum"],
            json!(["auto", "staged"])
        );
        assert_eq!(service["rule"]["anyOf"][0]["items"]["required"], json!(["action"]));
        assert_eq!(
            schema["properties"]["sets"]["additionalProperties"]["anyOf"][1]["required"],
            json!(["files"])
        );
    }
}
