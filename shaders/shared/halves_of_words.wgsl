// Up to four elements of 16 bits that follow each other in a range, wherever the first lies: in two words, or in three. A word has
// two elements, the first in the low bits; one past the last element is the last one's.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
//# end

fn halves_b0(first: u32, left: u32) -> vec2<u32> {
    let at = first / 2u;
    let last = (first + min(left, 4u) - 1u) / 2u;
    var halves = vec2<u32>(word_b0(at), word_b0(min(at + 1u, last)));
    if first % 2u == 1u {
        halves = (halves >> vec2<u32>(16u)) | (vec2<u32>(halves.y, word_b0(min(at + 2u, last))) << vec2<u32>(16u));
    }
    return halves;
}
