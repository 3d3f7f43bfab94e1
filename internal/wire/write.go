package wire

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// writeName is the member of a dictionary that says when its latest changes were
// made. It is no key.
const writeName = reservedPrefix + "write"

const (
	nonceSize  = 4
	digestSize = 8
	idLength   = 16 // of both in base64

	// maxDepthNumber is the greatest integer of canonical JSON.
	maxDepthNumber = 1<<53 - 1
)

// A Stamp says when a key was changed: how many changes deep, and by which write. Of
// two the greater one is later, or, where neither author knew of the other, counts
// as later for everybody alike.
type Stamp struct {
	Depth int64
	ID    string // of the write, or the event ID where the author wrote no stamps
}

// Compare orders stamps by depth, then by ID.
func (s Stamp) Compare(t Stamp) int {
	return cmp.Or(cmp.Compare(s.Depth, t.Depth), cmp.Compare(s.ID, t.ID))
}

// A Write is what a memory puts beside the keys of a dictionary: the member
// dev.joe.write.
type Write struct {
	ID    string           // of this write; it tells whether the content is what its author put
	Depth int64            // one more than any that the author had heard of
	Floor int64            // the greatest depth of a change that is not among Keys
	Base  string           // event ID of what the author believed to stand in the room; "" if it did not know
	Keys  map[string]Stamp // when keys were changed, deleted ones too
}

// Sign gives the content of a state event that holds the entries of d and a write. The
// write's ID is made from the nonce, the content and the sender's user ID, and is put
// where a stamp of the write has none.
func (d Dictionary) Sign(w Write, nonce [nonceSize]byte, sender string) (Write, json.RawMessage) {
	short := w.encode(base64.RawURLEncoding.EncodeToString(nonce[:]))
	content, at := d.content(short)
	sum := digest(Canonical(content), sender)
	w.ID = base64.RawURLEncoding.EncodeToString(append(nonce[:], sum...))
	keys := make(map[string]Stamp, len(w.Keys))
	for key, stamp := range w.Keys {
		stamp.ID = cmp.Or(stamp.ID, w.ID)
		keys[key] = stamp
	}
	w.Keys = keys
	return w, slices.Concat(content[:at], w.encode(w.ID), content[at+len(short):])
}

// Size gives how many bytes of content the member takes, once it is signed.
func (w Write) Size() int {
	return len(`"":,`) + len(writeName) + len(w.encode(strings.Repeat("A", idLength)))
}

// encode gives the member with an ID, which stands for the stamps that have none, too.
func (w Write) encode(id string) json.RawMessage {
	raw := []byte(`{"base":`)
	raw = appendString(raw, w.Base)
	raw = append(raw, `,"depth":`...)
	raw = strconv.AppendInt(raw, w.Depth, 10)
	raw = append(raw, `,"floor":`...)
	raw = strconv.AppendInt(raw, w.Floor, 10)
	raw = append(raw, `,"id":`...)
	raw = appendString(raw, id)
	raw = append(raw, `,"keys":{`...)
	names := make([]string, 0, len(w.Keys))
	stamps := make(map[string]Stamp, len(w.Keys))
	for key, stamp := range w.Keys {
		name := EncodeKey(key)
		names = append(names, name)
		stamps[name] = stamp
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = appendString(raw, name)
		raw = append(raw, `:[`...)
		raw = strconv.AppendInt(raw, stamps[name].Depth, 10)
		raw = append(raw, ',')
		raw = appendString(raw, cmp.Or(stamps[name].ID, id))
		raw = append(raw, ']')
	}
	return append(raw, `}}`...)
}

// decodeWrite reads the member. What holds something else counts as none.
func decodeWrite(raw json.RawMessage) *Write {
	s, err := scanObject(raw)
	if err != nil {
		return nil
	}
	w := &Write{Keys: make(map[string]Stamp)}
	seen := make(map[string]bool, len(s.members))
	for _, m := range s.members {
		name, value := string(m.name), s.out[m.value:m.end]
		ok := true
		switch name {
		case "id":
			w.ID, ok = decodeString(value)
		case "depth":
			w.Depth, ok = decodeDepth(value)
		case "floor":
			w.Floor, ok = decodeDepth(value)
		case "base":
			w.Base, ok = decodeString(value)
		case "keys":
			ok = w.decodeKeys(value)
		}
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
	}
	if len(w.ID) != idLength || w.Depth < 1 || w.Floor > w.Depth {
		return nil
	}
	for _, stamp := range w.Keys {
		if stamp.Depth > w.Depth {
			return nil
		}
	}
	return w
}

func (w *Write) decodeKeys(raw json.RawMessage) bool {
	s, err := scanObject(raw)
	if err != nil {
		return false
	}
	for _, m := range s.members {
		name := string(m.name)
		key, ok := DecodeKey(name)
		if _, twice := w.Keys[key]; !ok || twice || name != EncodeKey(key) {
			return false
		}
		if w.Keys[key], ok = decodeStamp(s.out[m.value:m.end]); !ok {
			return false
		}
	}
	return true
}

func decodeStamp(raw []byte) (stamp Stamp, ok bool) {
	if raw[0] != '[' {
		return Stamp{}, false
	}
	depth, id, ok := bytes.Cut(raw[1:len(raw)-1], []byte(","))
	if !ok {
		return Stamp{}, false
	}
	if stamp.Depth, ok = decodeDepth(depth); !ok || stamp.Depth < 1 {
		return Stamp{}, false
	}
	if _, ok = scan(id, false); !ok { // more than a pair
		return Stamp{}, false
	}
	stamp.ID, ok = decodeString(id)
	return stamp, ok && stamp.ID != ""
}

// decodeDepth reads an integer of canonical JSON that is not negative.
func decodeDepth(raw []byte) (depth int64, ok bool) {
	depth, err := strconv.ParseInt(string(raw), 10, 64)
	return depth, err == nil && depth >= 0 && depth <= maxDepthNumber && raw[0] != '-'
}

// digest gives what of a write's ID depends on the content, which is canonical JSON, and
// on who sent it.
func digest(content json.RawMessage, sender string) []byte {
	hash := sha256.New()
	hash.Write(content)
	hash.Write([]byte(sender))
	return hash.Sum(nil)[:digestSize]
}

// Authored says whether a content is what the author of its write put: whether the
// write's ID fits the content and who sent it. Else somebody carried the write along
// and changed something.
func Authored(content json.RawMessage, sender string) bool {
	s, ok := scan(content, true)
	if !ok || s.out[0] != '{' {
		return false
	}
	top, ok := scan(s.out, false) // for the members' positions
	if !ok {
		return false
	}
	i := slices.IndexFunc(top.members, func(m member) bool { return string(m.name) == writeName })
	if i < 0 {
		return false
	}
	m := top.members[i]
	write := decodeWrite(top.out[m.value:m.end])
	if write == nil {
		return false
	}
	id, err := base64.RawURLEncoding.DecodeString(write.ID)
	if err != nil || len(id) != nonceSize+digestSize {
		return false
	}
	short := base64.RawURLEncoding.EncodeToString(id[:nonceSize])
	member := bytes.ReplaceAll(top.out[m.value:m.end], fmt.Appendf(nil, "%q", write.ID), fmt.Appendf(nil, "%q", short))
	unsigned := slices.Concat(top.out[:m.value], member, top.out[m.end:])
	return bytes.Equal(digest(unsigned, sender), id[nonceSize:])
}
