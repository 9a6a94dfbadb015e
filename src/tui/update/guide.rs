//! docs/timeline.md lists the keys and commands there are: checked against their tables.

use std::path::Path;

use super::command::COMMANDS;
use super::keys::{BINDINGS, Group};

fn keys() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        text.push_str(&format!("\n| {} | |\n|---|---|\n", group.title()));
        for binding in BINDINGS.iter().filter(|binding| binding.group == group) {
            let keys: Vec<String> = binding.keys.iter().map(|key| format!("`{key}`")).collect();
            text.push_str(&format!("| {} | {} |\n", keys.join(" "), binding.help.replace('|', "\\|")));
        }
    }
    text.push('\n');
    text
}

fn commands() -> String {
    let mut text = "\n| command | |\n|---|---|\n".to_owned();
    for command in COMMANDS {
        let usage = format!(":{} {}", command.name, command.usage);
        text.push_str(&format!("| `{}` | {} |\n", usage.trim().replace('|', "\\|"), command.help.replace('|', "\\|")));
    }
    text.push('\n');
    text
}

#[test]
fn the_guide_lists_all_keys_and_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/timeline.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let mut wanted = guide.clone();
    for (part, table) in [("keys", keys()), ("commands", commands())] {
        let start = wanted.find(&format!("<!-- {part}: ")).unwrap();
        let from = start + wanted[start..].find("-->\n").unwrap() + 4;
        let to = wanted.find(&format!("<!-- end of {part} -->")).unwrap();
        wanted.replace_range(from..to, &table);
    }
    if std::env::var_os("AICTL_UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert_eq!(guide, wanted, "AICTL_UPDATE=1 cargo test guide writes it anew");
    }
}
