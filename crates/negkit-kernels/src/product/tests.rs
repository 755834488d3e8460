//! Products against f64.
#![allow(clippy::unwrap_used)]

use super::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| StandardNormal.sample(&mut rng))
        .collect()
}

fn relative_l2(found: &[f32], expected: &[f64]) -> f64 {
    let pairs = found.iter().zip(expected);
    let difference: f64 = pairs.map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    (difference / expected.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

/// `a` `[m, k]` times `b` `[k, n]`, on top of `start`.
fn reference(a: Matrix, b: Matrix, start: &[f32]) -> Vec<f64> {
    let at = |m: &Matrix, row: usize, column: usize| {
        f64::from(m.values[row * m.row_stride + column * m.column_stride])
    };
    (0..a.rows * b.columns)
        .map(|i| {
            let (row, column) = (i / b.columns, i % b.columns);
            let terms = (0..a.columns).map(|k| at(&a, row, k) * at(&b, k, column));
            f64::from(start[i]) + terms.sum::<f64>()
        })
        .collect()
}

const SIZES: [[usize; 3]; 12] = [
    [1, 1, 1],
    [2, 3, 5],
    [16, 16, 32],
    [32, 32, 32],
    [17, 33, 31],
    [48, 16, 64],
    [16, 48, 65],
    [65, 65, 64],
    [100, 40, 700],
    [300, 12, 33],
    [7, 1100, 70],
    [70, 45, 2100],
];

#[test]
fn products_of_all_sizes_and_layouts() {
    for (products, tolerance) in [(Products::Exact, 1e-6), (Products::Bf16, 4e-3)] {
        for [m, n, k] in SIZES {
            let (a, b) = (normal(3 * m * k, 1), normal(3 * k * n, 2));
            for layout in 0..3 {
                // Rows, columns, and every third value of longer rows.
                let strides = |rows: usize, columns: usize| {
                    [[columns, 1], [1, rows], [3 * columns, 3]][layout]
                };
                let left = Matrix::new(&a, [m, k], strides(m, k)).unwrap();
                let right = Matrix::new(&b, [k, n], strides(k, n)).unwrap();
                for output in [Output::Set, Output::Add] {
                    for threads in [Threads::One, Threads::All] {
                        // The values between the rows must stay as they are.
                        let stride = n + 3;
                        let start = normal(m * stride, 3);
                        let mut to = start.clone();
                        let out = MatrixMut::new(&mut to, m, n, stride).unwrap();
                        multiply(left, right, out, output, products, threads).unwrap();
                        let rows = |values: &[f32]| -> Vec<f32> {
                            let rows = values.chunks(stride);
                            rows.flat_map(|row| row[..n].to_vec()).collect()
                        };
                        let before = match output {
                            Output::Set => vec![0.; m * n],
                            Output::Add => rows(&start),
                        };
                        let error = relative_l2(&rows(&to), &reference(left, right, &before));
                        assert!(
                            error <= tolerance,
                            "{products:?} {m} x {n} x {k}, layout {layout}, {output:?}: {error:e}"
                        );
                        for (to, start) in to.chunks(stride).zip(start.chunks(stride)) {
                            assert_eq!(to[n..], start[n..]);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rounded_products_round_the_factors_and_nothing_else() {
    if !Products::Bf16.rounded() {
        return;
    }
    let (m, n, k) = (33, 40, 77);
    let rounded = |seed| -> Vec<f32> {
        let values = normal(m.max(n) * k, seed);
        values
            .iter()
            .map(|v| half::bf16::from_f32(*v).to_f32())
            .collect()
    };
    let (a, b) = (rounded(1), rounded(2));
    let left = Matrix::dense(&a, m, k).unwrap();
    let right = Matrix::dense(&b, k, n).unwrap();
    let mut to = vec![0.; m * n];
    let out = MatrixMut::dense(&mut to, m, n).unwrap();
    multiply(left, right, out, Output::Set, Products::Bf16, Threads::All).unwrap();
    let error = relative_l2(&to, &reference(left, right, &vec![0.; m * n]));
    assert!(error < 1e-6, "{error:e}");
}

#[test]
fn threads_do_not_change_a_rounded_product() {
    let (m, n, k) = (300, 70, 1000);
    let (a, b) = (normal(m * k, 1), normal(k * n, 2));
    let run = |threads| {
        let mut to = vec![0.; m * n];
        multiply(
            Matrix::dense(&a, m, k).unwrap(),
            Matrix::dense(&b, k, n).unwrap(),
            MatrixMut::dense(&mut to, m, n).unwrap(),
            Output::Set,
            Products::Bf16,
            threads,
        )
        .unwrap();
        to
    };
    if Products::Bf16.rounded() {
        assert_eq!(run(Threads::One), run(Threads::All));
    }
}

#[test]
fn empty_sums_are_zero() {
    let mut to = vec![7.; 6];
    for products in [Products::Exact, Products::Bf16] {
        let out = MatrixMut::new(&mut to, 2, 2, 3).unwrap();
        let (a, b) = (
            Matrix::dense(&[], 2, 0).unwrap(),
            Matrix::dense(&[], 0, 2).unwrap(),
        );
        multiply(a, b, out, Output::Set, products, Threads::One).unwrap();
        assert_eq!(to, [0., 0., 7., 0., 0., 7.]);
    }
}

#[test]
fn matrices_outside_their_values_are_errors() {
    let values = vec![0.; 11];
    assert!(Matrix::dense(&values, 3, 4).is_err());
    assert!(Matrix::new(&values, [2, 2], [usize::MAX, 2]).is_err());
    assert!(Matrix::new(&values, [2, 2], [9, 1]).is_ok());
    assert!(MatrixMut::new(&mut values.clone(), 2, 4, 3).is_err());
    let (a, b) = (Matrix::dense(&values, 2, 3), Matrix::dense(&values, 2, 3));
    let mut to = vec![0.; 4];
    let out = MatrixMut::dense(&mut to, 2, 2).unwrap();
    let found = multiply(
        a.unwrap(),
        b.unwrap(),
        out,
        Output::Set,
        Products::Exact,
        Threads::One,
    );
    assert!(found.is_err());
}
