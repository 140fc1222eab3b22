//! The one thing that the dashboard's page computes: a session's group, from its flags. The line is read and
//! obeyed here, as no browser is at hand.

use serde_json::Value;

/// `function group(session)` of the page's script.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// The flag that is asked for, and the group of a session that has it; the first that fits counts.
    rules: Vec<(String, String)>,
    otherwise: String,
}

impl Grouping {
    /// Reads it out of the script. Whatever is not understood is a failure: then there is more to it than
    /// this test obeys.
    pub(crate) fn read(script: &str) -> Self {
        let body =
            script.split_once("function group(session) {\n").expect("the function is there").1;
        let body = body.split_once("\n}").expect("it has an end").0;
        let (mut rules, mut otherwise) = (Vec::new(), None);
        for line in body.lines().map(str::trim) {
            assert!(otherwise.is_none(), "nothing comes after the last answer: {line}");
            if let Some(rule) = line.strip_prefix("if (session.") {
                let (flag, answer) = rule.split_once(") return ").expect(line);
                rules.push((flag.to_owned(), word(answer.strip_suffix(';').expect(line))));
            } else {
                let answer = line.strip_prefix("return session.").expect(line);
                let (flag, answers) = answer.split_once(" ? ").expect(line);
                let (yes, no) =
                    answers.strip_suffix(';').expect(line).split_once(" : ").expect(line);
                rules.push((flag.to_owned(), word(yes)));
                otherwise = Some(word(no));
            }
        }
        Self { rules, otherwise: otherwise.expect("there is an answer in any case") }
    }

    /// What the page shows of a session, whatever has told of it: a list's item or a status object.
    pub(crate) fn of(&self, session: &Value) -> &str {
        let has =
            |flag: &str| session[flag].as_bool().unwrap_or_else(|| panic!("{flag}: {session}"));
        let rule = self.rules.iter().find(|(flag, _)| has(flag));
        rule.map_or(&self.otherwise, |(_, group)| group)
    }
}

fn word(text: &str) -> String {
    let word = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    word.unwrap_or_else(|| panic!("{text} is no word")).to_owned()
}
