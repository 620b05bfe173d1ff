// Checks what Hejin wrote with Go's own implementation of signed notes and transparency logs.
//
//	interop check CASES.json   verdicts on notes, proofs and whole logs, one JSON object a line
//	interop make LEAVES        a signed checkpoint and proofs of its own, for Hejin to check
//
// Notes: golang.org/x/mod/sumdb/note; trees: golang.org/x/mod/sumdb/tlog, whose record and node
// hashes are those of RFC 6962. Cosignatures, which x/mod does not know: C2SP tlog-cosignature, with
// crypto/ed25519.
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Case is one thing that Hejin wrote, whole or altered.
type Case struct {
	Name    string
	Kind    string      // note, record, tree, proof or log
	Note    string      // note, log: a signed note; proof: a C2SP tlog-proof
	Keys    []string    // verifier keys, all of which must have signed
	Leaf    []byte      // record: the entry
	Index   int64       // record: its place
	Size    int64       // record, tree: leaves of the (newer) tree
	Root    tlog.Hash   // record, tree: its root
	Old     int64       // tree: leaves of the older tree
	OldRoot tlog.Hash   // tree: its root
	Proof   []tlog.Hash // record, tree
	Leaves  string      // log: a file with one entry a line
}

// A Verdict is what Go's libraries say of a case.
type Verdict struct {
	Name     string
	Accepted bool
	Reason   string
}

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: interop check CASES.json | interop make LEAVES"))
	}
	switch os.Args[1] {
	case "check":
		fail(checkAll(os.Args[2]))
	case "make":
		fail(makeAll(os.Args[2]))
	default:
		fail(errors.New("no such command: " + os.Args[1]))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(2)
	}
}

func checkAll(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var cases []Case
	if err := decoder.Decode(&cases); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, c := range cases {
		verdict := Verdict{Name: c.Name, Accepted: true}
		if err := check(c); err != nil {
			verdict.Accepted, verdict.Reason = false, err.Error()
		}
		if err := out.Encode(verdict); err != nil {
			return err
		}
	}
	return nil
}

func check(c Case) error {
	switch c.Kind {
	case "note":
		_, err := open(c.Note, c.Keys)
		return err
	case "record":
		return tlog.CheckRecord(c.Proof, c.Size, c.Root, c.Index, tlog.RecordHash(c.Leaf))
	case "tree":
		return tlog.CheckTree(c.Proof, c.Size, c.Root, c.Old, c.OldRoot)
	case "proof":
		return checkProof(c.Note, c.Keys)
	case "log":
		return checkLog(c.Leaves, c.Note, c.Keys)
	}
	fail(errors.New("no such kind: " + c.Kind))
	return nil
}

// open returns the tree that a note names, if each of the keys has signed it.
func open(text string, keys []string) (tlog.Tree, error) {
	var verifiers []note.Verifier
	for _, key := range keys {
		verifier, err := newVerifier(key)
		if err != nil {
			return tlog.Tree{}, err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(opened.Sigs) != len(verifiers) {
		return tlog.Tree{}, fmt.Errorf("%d of %d keys have signed", len(opened.Sigs), len(verifiers))
	}
	return parseCheckpoint(opened.Text, verifiers[0].Name())
}

// parseCheckpoint reads a C2SP tlog-checkpoint; tlog.ParseTree knows only the origin of go.sum.
func parseCheckpoint(text, origin string) (tlog.Tree, error) {
	lines := strings.SplitN(text, "\n", 2)
	if len(lines) != 2 || lines[0] != origin {
		return tlog.Tree{}, errors.New("the checkpoint is of another log than its signer's")
	}
	return tlog.ParseTree([]byte("go.sum database tree\n" + lines[1]))
}

// A cosigner verifies timestamped signatures. C2SP tlog-cosignature, signature type 0x04.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

const cosignature = 4

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	stamp := binary.BigEndian.Uint64(signature)
	if stamp > 1<<63-1 {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", stamp, text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}

// newVerifier takes keys of logs and of cosigners, in the form of C2SP signed-note.
func newVerifier(encoded string) (note.Verifier, error) {
	parts := strings.SplitN(encoded, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("malformed verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignature {
		return note.NewVerifier(encoded)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("the verifier key does not have its own id")
	}
	return &cosigner{parts[0], hash, key[1:]}, nil
}

// checkProof checks a C2SP tlog-proof that carries its entry as extra data.
func checkProof(text string, keys []string) error {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof with extra data")
	}
	extra, index := strings.TrimPrefix(lines[1], "extra "), strings.TrimPrefix(lines[2], "index ")
	if extra == lines[1] || index == lines[2] {
		return errors.New("not a tlog-proof with extra data")
	}
	entry, err := base64.StdEncoding.DecodeString(extra)
	if err != nil {
		return err
	}
	place, err := strconv.ParseInt(index, 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := open(checkpoint, keys)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, place, tlog.RecordHash(entry))
}

// A store keeps the hashes of a tree in memory, in tlog's own order.
type store []tlog.Hash

func (s *store) ReadHashes(places []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, place := range places {
		found = append(found, (*s)[place])
	}
	return found, nil
}

// grow builds the tree over the lines of a file, entry by entry.
func grow(path string) (*store, [][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	hashes, entries := &store{}, [][]byte{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<17)
	for lines.Scan() {
		entry := append([]byte(nil), lines.Bytes()...)
		added, err := tlog.StoredHashes(int64(len(entries)), entry, hashes)
		if err != nil {
			return nil, nil, err
		}
		*hashes, entries = append(*hashes, added...), append(entries, entry)
	}
	return hashes, entries, lines.Err()
}

// checkLog rebuilds a whole log and compares it with its checkpoint.
func checkLog(path, checkpoint string, keys []string) error {
	tree, err := open(checkpoint, keys)
	if err != nil {
		return err
	}
	hashes, entries, err := grow(path)
	if err != nil {
		return err
	}
	if int64(len(entries)) != tree.N {
		return fmt.Errorf("%d entries, the checkpoint says %d", len(entries), tree.N)
	}
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the entries do not lead to the checkpoint's root")
	}
	return nil
}

// Made is what Go wrote: a key, and of every size a checkpoint with all proofs.
type Made struct {
	Key   string
	Trees []Tree
}

// A Tree is the first Size leaves: Records[i] proves leaf i, Older[i] the tree of i+1 leaves.
type Tree struct {
	Size    int64
	Note    string
	Records []tlog.RecordProof
	Older   []tlog.TreeProof
}

const origin = "go.example/interop"

func makeAll(leaves string) error {
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	hashes, entries, err := grow(leaves)
	if err != nil {
		return err
	}
	made := Made{Key: public}
	for size := int64(1); size <= int64(len(entries)); size++ {
		tree, err := makeTree(size, hashes, signer)
		if err != nil {
			return err
		}
		made.Trees = append(made.Trees, tree)
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

func makeTree(size int64, hashes *store, signer note.Signer) (Tree, error) {
	tree := Tree{Size: size}
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return tree, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return tree, err
	}
	tree.Note = string(signed)
	for i := int64(0); i < size; i++ {
		record, err := tlog.ProveRecord(size, i, hashes)
		if err != nil {
			return tree, err
		}
		older, err := tlog.ProveTree(size, i+1, hashes)
		if err != nil {
			return tree, err
		}
		tree.Records, tree.Older = append(tree.Records, record), append(tree.Older, older)
	}
	return tree, nil
}
