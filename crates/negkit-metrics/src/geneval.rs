//! GenEval: whether the objects that a detector found are those that a prompt asks for.
//!
//! A prompt asks by [`Include`] and [`Exclude`] clauses; [`geneval`] holds them against the
//! [`DetectedObject`]s of a picture, and [`GenevalReport`] takes the shares. Where the objects and
//! their colours come from is the caller's business.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Clusters, Interval, MetricsError};

const METRIC: &str = "GenEval";

/// Where one object lies of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Relation {
    /// Left of it.
    #[serde(rename = "left of")]
    LeftOf,
    /// Right of it.
    #[serde(rename = "right of")]
    RightOf,
    /// Above it.
    #[serde(rename = "above")]
    Above,
    /// Below it.
    #[serde(rename = "below")]
    Below,
}

/// Objects that must be there, as `evaluation_metadata.jsonl` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// Their class.
    pub class: String,
    /// At least so many.
    pub count: usize,
    /// All of them in this colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// All of them so placed to all objects of an earlier clause (its index).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(Relation, usize)>,
}

/// Objects that must not be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclude {
    /// Their class.
    pub class: String,
    /// Fewer than so many.
    pub count: usize,
}

/// What a prompt asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GenevalClauses {
    /// All of these must hold.
    #[serde(default)]
    pub include: Vec<Include>,
    /// None of these may be reached.
    #[serde(default)]
    pub exclude: Vec<Exclude>,
}

/// An object that was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectedObject {
    /// Its class.
    pub class: String,
    /// How sure the detector is.
    pub confidence: f32,
    /// Left, top, right and bottom, in pixels.
    pub bounds: [f32; 4],
    /// Its colour; only needed where a clause asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// Which objects count, and when one lies beside another (options of `evaluate_images.py`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GenevalSettings {
    /// Objects count above this confidence.
    pub confidence: f32,
    /// So many of a class count, the surest first.
    pub objects_per_class: usize,
    /// Objects whose IoU with a surer one of their class is this or more do not count; 1 and more keeps
    /// all.
    pub overlap: f64,
    /// How far, in widths (heights) of both objects together, centres must be apart.
    pub distance: f64,
}

impl GenevalSettings {
    /// GenEval's for all prompts but those that count.
    pub const PUBLISHED: Self = Self {
        confidence: 0.3,
        objects_per_class: 16,
        overlap: 1.,
        distance: 0.1,
    };
    /// GenEval's for prompts of the tag `counting`: only what the detector is sure of.
    pub const COUNTING: Self = Self {
        confidence: 0.9,
        ..Self::PUBLISHED
    };
}

/// Why a picture is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GenevalFault {
    /// Too few objects for the `include` clause of this index.
    Missing {
        /// Index of the clause.
        clause: usize,
        /// Objects that were found.
        found: usize,
    },
    /// Enough objects, too few of them in the colour.
    Color {
        /// Index of the clause.
        clause: usize,
        /// Objects of that colour.
        found: usize,
    },
    /// Not where they should be.
    Position {
        /// Index of the clause.
        clause: usize,
        /// Where the first wrong one is.
        found: Vec<Relation>,
    },
    /// The clause that they should be placed by does not hold.
    NoTarget {
        /// Index of the clause.
        clause: usize,
    },
    /// Objects of the `exclude` clause of this index are there.
    Excluded {
        /// Index of the clause.
        clause: usize,
        /// Objects that were found.
        found: usize,
    },
}

/// What is wrong with a picture; nothing where it is right (`evaluate` of djghosh13/geneval's
/// `evaluate_images.py`).
///
/// # Errors
/// When there are no clauses, a position names no earlier clause, a box or a confidence is not finite,
/// or a clause asks for a colour and an object has none.
pub fn geneval(
    clauses: &GenevalClauses,
    objects: &[DetectedObject],
    settings: &GenevalSettings,
) -> Result<Vec<GenevalFault>, MetricsError> {
    if clauses.include.is_empty() && clauses.exclude.is_empty() {
        return Err(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        });
    }
    let kept = counted(objects, settings)?;
    let of_class = |class: &str| kept.get(class).map_or(&[][..], Vec::as_slice);
    let mut faults = Vec::new();
    // The objects of the clauses that hold.
    let mut groups: Vec<Option<&[&DetectedObject]>> = Vec::new();
    for (index, clause) in clauses.include.iter().enumerate() {
        let found = of_class(&clause.class);
        let found = &found[..clause.count.min(found.len())];
        let fault = included(index, clause, found, &groups, settings)?;
        groups.push(fault.is_none().then_some(found));
        faults.extend(fault);
    }
    for (clause, exclude) in clauses.exclude.iter().enumerate() {
        let found = of_class(&exclude.class).len();
        if found >= exclude.count {
            faults.push(GenevalFault::Excluded { clause, found });
        }
    }
    Ok(faults)
}

/// The objects that count, by class, the surest first.
fn counted<'a>(
    objects: &'a [DetectedObject],
    settings: &GenevalSettings,
) -> Result<BTreeMap<&'a str, Vec<&'a DetectedObject>>, MetricsError> {
    for (index, object) in objects.iter().enumerate() {
        let numbers = object.bounds.iter().chain([&object.confidence]);
        if let Some(value) = numbers.copied().find(|value| !value.is_finite()) {
            return Err(MetricsError::NotFinite {
                metric: METRIC,
                index,
                value: f64::from(value),
            });
        }
    }
    let mut sure: Vec<&DetectedObject> = objects
        .iter()
        .filter(|object| object.confidence > settings.confidence)
        .collect();
    sure.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut classes = BTreeMap::<&str, Vec<&DetectedObject>>::new();
    for object in sure {
        classes.entry(&object.class).or_default().push(object);
    }
    for objects in classes.values_mut() {
        objects.truncate(settings.objects_per_class);
        if settings.overlap < 1. {
            let mut kept: Vec<&DetectedObject> = Vec::new();
            for object in objects.iter() {
                if kept
                    .iter()
                    .all(|surer| overlap(surer, object) < settings.overlap)
                {
                    kept.push(object);
                }
            }
            *objects = kept;
        }
    }
    Ok(classes)
}

/// IoU of two boxes whose last pixels belong to them, as GenEval counts.
fn overlap(a: &DetectedObject, b: &DetectedObject) -> f64 {
    let area = |bounds: [f64; 4]| {
        let [left, top, right, bottom] = bounds;
        (right - left + 1.).max(0.) * (bottom - top + 1.).max(0.)
    };
    let (a, b) = (a.bounds.map(f64::from), b.bounds.map(f64::from));
    let both = area([
        a[0].max(b[0]),
        a[1].max(b[1]),
        a[2].min(b[2]),
        a[3].min(b[3]),
    ]);
    let union = area(a) + area(b) - both;
    if union == 0. { 0. } else { both / union }
}

fn included(
    index: usize,
    clause: &Include,
    found: &[&DetectedObject],
    groups: &[Option<&[&DetectedObject]>],
    settings: &GenevalSettings,
) -> Result<Option<GenevalFault>, MetricsError> {
    let target = clause.position.map(|(relation, target)| {
        let group = groups.get(target).ok_or_else(|| MetricsError::Item {
            metric: METRIC,
            item: format!("the position in clause {index}"),
            problem: "to a clause that does not come before it",
        })?;
        Ok::<_, MetricsError>((relation, *group))
    });
    let target = target.transpose()?;
    if found.len() < clause.count {
        return Ok(Some(GenevalFault::Missing {
            clause: index,
            found: found.len(),
        }));
    }
    if let Some(color) = &clause.color {
        let same = in_color(found, color)?;
        if same < clause.count {
            return Ok(Some(GenevalFault::Color {
                clause: index,
                found: same,
            }));
        }
    }
    Ok(match target {
        None => None,
        Some((_, None)) => Some(GenevalFault::NoTarget { clause: index }),
        Some((relation, Some(targets))) => misplaced(found, targets, relation, settings.distance)
            .map(|found| GenevalFault::Position {
                clause: index,
                found: found.into_iter().collect(),
            }),
    })
}

fn in_color(objects: &[&DetectedObject], color: &str) -> Result<usize, MetricsError> {
    let mut same = 0;
    for object in objects {
        let Some(found) = &object.color else {
            return Err(MetricsError::Item {
                metric: METRIC,
                item: format!("the colour of a {}", object.class),
                problem: "not known, and the prompt asks for it",
            });
        };
        same += usize::from(found == color);
    }
    Ok(same)
}

/// The relations of the first object that is not so placed to a target.
fn misplaced(
    objects: &[&DetectedObject],
    targets: &[&DetectedObject],
    relation: Relation,
    distance: f64,
) -> Option<BTreeSet<Relation>> {
    objects
        .iter()
        .flat_map(|object| targets.iter().map(move |target| (object, target)))
        .map(|(object, target)| relations(object, target, distance))
        .find(|relations| !relations.contains(&relation))
}

/// How `a` lies to `b`: by the offset of their centres, less `distance` times the sizes of both; a
/// direction counts where it makes up more than half the offset (`relative_position`).
fn relations(a: &DetectedObject, b: &DetectedObject, distance: f64) -> BTreeSet<Relation> {
    let (a, b) = (a.bounds.map(f64::from), b.bounds.map(f64::from));
    let offset = |axis: usize| (a[axis] + a[axis + 2]) / 2. - (b[axis] + b[axis + 2]) / 2.;
    let sizes = |axis: usize| (a[axis + 2] - a[axis]).abs() + (b[axis + 2] - b[axis]).abs();
    let (x, y) = (offset(0), offset(1));
    let revised = |offset: f64, sizes: f64| {
        (offset.abs() - distance * sizes).max(0.) * if offset < 0. { -1. } else { 1. }
    };
    let (revised_x, revised_y) = (revised(x, sizes(0)), revised(y, sizes(1)));
    if revised_x.abs() < 1e-3 && revised_y.abs() < 1e-3 {
        return BTreeSet::new();
    }
    let norm = x.hypot(y);
    let (x, y) = (revised_x / norm, revised_y / norm);
    [
        (x < -0.5, Relation::LeftOf),
        (x > 0.5, Relation::RightOf),
        (y < -0.5, Relation::Above),
        (y > 0.5, Relation::Below),
    ]
    .into_iter()
    .filter_map(|(holds, relation)| holds.then_some(relation))
    .collect()
}

/// Whether one picture is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenevalPicture {
    /// The task: `single_object`, `counting`, `color_attr` …
    pub tag: String,
    /// The prompt.
    pub prompt: String,
    /// Whether it has no [`GenevalFault`].
    pub right: bool,
}

/// GenEval over pictures (`summary_scores.py`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenevalReport {
    /// The score: mean over tasks of the share of right pictures.
    pub overall: Interval,
    /// Share of right pictures.
    pub pictures: Interval,
    /// Share of prompts with a right picture.
    pub prompts: Interval,
    /// Share of right pictures of every task.
    pub tasks: BTreeMap<String, Interval>,
}

impl GenevalReport {
    /// From all pictures, in any order; prompts are drawn for the intervals.
    ///
    /// # Errors
    /// When there are none, or the bootstrap's settings make no sense.
    pub fn new(pictures: &[GenevalPicture], bootstrap: &Bootstrap) -> Result<Self, MetricsError> {
        let key = |picture: &GenevalPicture| (picture.tag.clone(), picture.prompt.clone());
        let all = Clusters::by_label(pictures.iter().map(key));
        let mut by_task = BTreeMap::<&str, Vec<&GenevalPicture>>::new();
        for picture in pictures {
            by_task.entry(&picture.tag).or_default().push(picture);
        }
        let prompts = |pictures: &Vec<&GenevalPicture>| {
            Clusters::by_label(pictures.iter().map(|picture| &picture.prompt))
        };
        let strata: Vec<Clusters> = by_task.values().map(prompts).collect();
        let in_task: Vec<&Vec<&GenevalPicture>> = by_task.values().collect();
        let overall = bootstrap.stratified(&strata, |task, items| {
            let right = items.iter().filter(|item| in_task[task][**item].right);
            right.count() as f64 / items.len() as f64
        })?;
        let tasks = by_task
            .iter()
            .map(|(tag, pictures)| {
                let share = bootstrap.share(&prompts(pictures), |item| pictures[item].right)?;
                Ok(((*tag).to_owned(), share))
            })
            .collect::<Result<_, MetricsError>>()?;
        let found: Vec<f64> = all
            .iter()
            .map(|items| f64::from(u8::from(items.iter().any(|item| pictures[*item].right))))
            .collect();
        Ok(Self {
            overall,
            pictures: bootstrap.share(&all, |item| pictures[item].right)?,
            prompts: bootstrap.mean(&found)?,
            tasks,
        })
    }
}
