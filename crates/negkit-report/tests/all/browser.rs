//! The page in a real browser: its filters are used, and compared with the records.

use std::fs;
use std::path::{Path, PathBuf};

use negkit_report::{Report, ReportSettings};
use serde_json::json;

use crate::chromium::{self, Chromium};
use crate::made::{self, PHRASES, PICTURES, PICTURES5, PROMPTS};

const ALL: usize = usize::MAX;
const TIFA: usize = 4;

/// A page of a run of either table, and its address.
fn write_page(folder: &Path) -> String {
    let at = |name: &str| folder.join(name);
    made::table4_run(&at("four"), ALL);
    made::table5_run(&at("five"), &at("pictures"), ALL);
    let runs = [at("four"), at("five")];
    let report = Report::open(&runs, ReportSettings::default()).unwrap();
    let path: PathBuf = at("report.html");
    fs::write(&path, report.page(&mut |_, _| {}).unwrap().html).unwrap();
    format!("file://{}", path.display())
}

/// Ids of the cards that are to be seen.
fn shown(browser: &mut Chromium) -> Vec<String> {
    let found = browser.value(
        "[...document.querySelectorAll('.card')].filter((card) => card.checkVisibility())
         .map((card) => card.id)",
    );
    serde_json::from_value(found).unwrap()
}

/// Ids of the prompts that fulfil a condition, then of the phrases.
fn expected(
    prompt: impl Fn(usize) -> bool,
    tifa: impl Fn(usize) -> bool,
    phrase: impl Fn(usize, usize) -> bool,
) -> Vec<String> {
    let mut ids = Vec::new();
    let prompts = (0..PROMPTS.len()).filter(|index| prompt(*index));
    ids.extend(prompts.map(|index| format!("run1-neg-{}", index + 1)));
    let others = (0..TIFA).filter(|index| tifa(*index));
    ids.extend(others.map(|index| format!("run1-tifa-{}", index + 1)));
    for picture in 0..PICTURES5 {
        for index in (0..PHRASES.len()).filter(|index| phrase(picture, *index)) {
            let place = picture * PHRASES.len() + index + 1;
            ids.push(format!("run2-refcocog-{place}"));
        }
    }
    ids
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|one| one == word)
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(program) = chromium::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let address = write_page(folder.path());
    let browser = &mut Chromium::start(&program);
    browser.open(&address);

    everything_is_shown_and_every_picture_is_there(browser);
    filters_in_the_address_are_the_filters_of_the_page(browser, &address);
    filters_answer_to_mouse_and_keys(browser, &address);
    cards_are_sorted_within_their_group(browser, &address);
    links_lead_to_cards_that_are_hidden(browser, &address);
    colours_follow_the_system_and_the_switch(browser, &address);
    nothing_is_wider_than_a_narrow_screen(browser, &address);
    everything_has_a_name(browser);

    assert_eq!(browser.complaints(), Vec::<String>::new());
    let foreign = browser.requests().into_iter();
    let foreign = foreign.filter(|asked| !address.starts_with(asked.split('#').next().unwrap()));
    let foreign: Vec<String> = foreign.filter(|asked| asked != "about:blank").collect();
    assert_eq!(foreign, Vec::<String>::new());
}

fn everything_is_shown_and_every_picture_is_there(browser: &mut Chromium) {
    let all = expected(|_| true, |_| true, |_, _| true);
    assert_eq!(shown(browser), all);
    // The prompt that holds a script is text, and no script ran.
    assert_ne!(browser.value("document.title"), "owned");
    let title = browser.value("document.querySelector('#run1-neg-4 h5').textContent");
    assert_eq!(title, made::EVIL);
    // Each picture can be decoded and has its size.
    let broken = browser.value(
        "Promise.all([...document.images].map((image) => { image.loading = 'eager';
           return image.decode().then(() => image.naturalWidth === 0, () => true); }))
         .then((all) => all.filter(Boolean).length)",
    );
    assert_eq!(broken, 0);
    // The best and the worst show the pictures of their cards.
    let thumbs = browser.value(
        "[...document.querySelectorAll('[data-pictures-of]')]
         .every((place) => place.querySelectorAll('img').length >= 2)",
    );
    assert_eq!(thumbs, true);
}

fn filters_in_the_address_are_the_filters_of_the_page(browser: &mut Chromium, address: &str) {
    let right = |prompt, encoder, picture| made::right(prompt, encoder, picture) == [true, true];
    browser.open(&format!("{address}#word=without"));
    let of_word = expected(
        |index| has_word(PROMPTS[index].0, "without"),
        |_| false,
        |_, index| has_word(PHRASES[index], "without"),
    );
    assert_eq!(shown(browser), of_word);
    let said = browser.value("document.getElementById('count').textContent");
    let all = PROMPTS.len() + TIFA + PICTURES5 * PHRASES.len();
    assert_eq!(said, format!("{} of {all} shown", of_word.len()));

    browser.open(&format!("{address}#kind=object&q=NO+chairs"));
    assert_eq!(shown(browser), ["run1-neg-1"]);

    // Wrong with one encoder, the other not looked at.
    browser.open(&format!(
        "{address}#encoder=negationclip&result=wrong&kind=object"
    ));
    let wrong = expected(
        |index| PROMPTS[index].1 == "object" && (0..PICTURES).any(|p| !right(index, 1, p)),
        |_| false,
        |_, _| false,
    );
    assert!(!wrong.is_empty());
    assert_eq!(shown(browser), wrong);
    let columns = browser.value(
        "[...document.querySelectorAll('[data-encoder=\"0\"]')].some((one) => one.getClientRects().length)",
    );
    assert_eq!(columns, false);

    browser.open(&format!("{address}#result=differ"));
    let differ = expected(
        |index| (0..PICTURES).any(|p| right(index, 0, p) != right(index, 1, p)),
        |index| {
            let prompt = PROMPTS.len() + index;
            // The third question is answered rightly by the second encoder alone.
            right(prompt, 1, 0)
        },
        |picture, index| {
            let right = |encoder| made::iou(picture, index, encoder) > 0.5;
            right(0) != right(1)
        },
    );
    assert!(differ.len() > 2);
    assert_eq!(shown(browser), differ);
    // What does not match on a card is dimmed: pictures of one noise that both have right or wrong.
    let dimmed = browser.value(
        "[...document.querySelectorAll('#run1-neg-1 .panel')].map((p) => p.classList.contains('dim'))",
    );
    let same = |p| right(0, 0, p) == right(0, 1, p);
    assert_eq!(dimmed, json!([same(0), same(1), same(0), same(1)]));

    // A filter that the page does not have filters nothing.
    browser.open(&format!(
        "{address}#word=nowhere&sort=by-moonlight&theme=pink"
    ));
    assert_eq!(shown(browser).len(), all);
}

fn filters_answer_to_mouse_and_keys(browser: &mut Chromium, address: &str) {
    browser.open(address);
    browser.click("#filters [name=q]");
    browser.type_text("horse");
    // What was asked is searched, too.
    let tifa = expected(|_| false, |_| true, |_, _| false);
    assert_eq!(shown(browser), tifa);
    let state = browser.value("location.hash");
    assert_eq!(state, "#q=horse");
    browser.click("#filters [name=encoder][value=stock]");
    let left = browser.value(
        "[...document.querySelectorAll('.card:not([hidden]) .column')].filter((one) => one.checkVisibility()).length",
    );
    assert_eq!(left, TIFA);
    // Without any encoder there is nothing to show, and the page says so.
    browser.click("#filters [name=encoder][value=negationclip]");
    assert_eq!(shown(browser), Vec::<String>::new());
    let said =
        browser.value("document.querySelector('#run1-tifa-cards .nothing').checkVisibility()");
    assert_eq!(said, true);
    browser.click("#filters [type=reset]");
    browser.value("new Promise((done) => setTimeout(done))");
    assert_eq!(shown(browser), expected(|_| true, |_| true, |_, _| true));
    // From the search by keyboard to the next field, and a choice by its first letter.
    browser.value("document.querySelector('#filters [name=q]').focus()");
    browser.press("Tab", 9);
    let focused = browser.value("document.activeElement.name");
    assert_eq!(focused, "word");
}

fn cards_are_sorted_within_their_group(browser: &mut Chromium, address: &str) {
    browser.open(&format!("{address}#sort=best&encoder=negationclip"));
    let scores = |browser: &mut Chromium| -> Vec<f64> {
        let found = browser.value(
            "[...document.querySelectorAll('#run2-refcocog-cards .card')].map((card) =>
             Number(card.querySelector('[data-encoder=\"1\"]').dataset.score))",
        );
        serde_json::from_value(found).unwrap()
    };
    let best_first = scores(browser);
    assert_eq!(best_first.len(), PICTURES5 * PHRASES.len());
    assert!(best_first.is_sorted_by(|a, b| a >= b), "{best_first:?}");
    browser.open(&format!("{address}#sort=worst&encoder=negationclip"));
    assert!(scores(browser).is_sorted());
    // And back, as the run has them.
    browser.click("#filters [type=reset]");
    browser.value("new Promise((done) => setTimeout(done))");
    assert_eq!(shown(browser), expected(|_| true, |_| true, |_, _| true));
}

fn links_lead_to_cards_that_are_hidden(browser: &mut Chromium, address: &str) {
    browser.open(&format!("{address}#q=nothing+is+called+so"));
    assert_eq!(shown(browser), Vec::<String>::new());
    let target = browser.value(
        "(() => { const link = document.querySelector('.case-list a'); link.click();
           return link.hash.slice(1); })()",
    );
    browser.value("new Promise((done) => setTimeout(done, 50))");
    assert_eq!(shown(browser), [target.as_str().unwrap()]);
    let focused = browser.value("document.activeElement.id");
    assert_eq!(focused, target);
}

fn colours_follow_the_system_and_the_switch(browser: &mut Chromium, address: &str) {
    // The brightness of the ground, from 0 to 255.
    let mut ground = |scheme: &str, state: &str| -> f64 {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", features);
        browser.open(&format!("{address}{state}"));
        let colour = browser.value("getComputedStyle(document.body).backgroundColor");
        let colour = colour.as_str().unwrap();
        let numbers = colour
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty());
        let numbers: Vec<f64> = numbers.map(|part| part.parse().unwrap()).collect();
        numbers[..3].iter().sum::<f64>() / 3.
    };
    assert!(ground("light", "") > 200.);
    assert!(ground("dark", "") < 60.);
    assert!(ground("light", "#theme=dark") < 60.);
    assert!(ground("dark", "#theme=light") > 200.);
    browser.call("Emulation.setEmulatedMedia", json!({"features": []}));
}

fn nothing_is_wider_than_a_narrow_screen(browser: &mut Chromium, address: &str) {
    let size = json!({"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", size);
    browser.open(address);
    let widths = browser.value(
        "[document.scrollingElement.scrollWidth, innerWidth, document.getElementById('filter-box').open]",
    );
    assert_eq!(widths, json!([360, 360, false]));
    browser.call("Emulation.clearDeviceMetricsOverride", json!({}));
}

/// What a screen reader is told of controls, pictures, tables and regions.
fn everything_has_a_name(browser: &mut Chromium) {
    browser.call("Accessibility.enable", json!({}));
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let mut named = 0;
    for node in tree["nodes"].as_array().unwrap() {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let roles = [
            "button",
            "checkbox",
            "combobox",
            "searchbox",
            "link",
            "image",
            "region",
            "article",
            "form",
            "navigation",
            "DisclosureTriangle",
        ];
        if node["ignored"] == true || !roles.contains(&role) {
            continue;
        }
        let name = node["name"]["value"].as_str().unwrap_or_default();
        assert!(!name.trim().is_empty(), "{node}");
        named += 1;
    }
    assert!(named > 50, "{named}");
    // Titles descend by one.
    let jumps = browser.value(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((title) => Number(title.tagName[1]))
         .some((level, index, all) => index && level - all[index - 1] > 1)",
    );
    assert_eq!(jumps, false);
}
