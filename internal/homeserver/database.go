package homeserver

import (
	"encoding/binary"
	"path/filepath"
)

// databases are the files of dendriteConfig.
var databases = []string{
	"federationapi.db", "keyserver.db", "mediaapi.db", "mscs.db",
	"relayapi.db", "roomserver.db", "syncapi.db", "userapi.db",
}

// createDatabases makes databases of a server, empty, unless they are there. As
// they are made here, they are in write-ahead mode, which a database keeps: with
// it, readers and writers don't wait for each other. Without it Dendrite fails on
// a slow machine, once a writer has waited ten seconds for readers.
func createDatabases(dir string, names ...string) error {
	for _, name := range names {
		if err := createFile(filepath.Join(dir, name), emptyDatabase()); err != nil {
			return err
		}
	}
	return nil
}

// emptyDatabase returns an SQLite database without tables, in write-ahead mode:
// https://www.sqlite.org/fileformat2.html
func emptyDatabase() []byte {
	const (
		pageSize       = 4096
		writeAheadMode = 2
		tableLeaf      = 13
	)
	page := make([]byte, pageSize)
	copy(page, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(page[16:], pageSize)
	page[18], page[19] = writeAheadMode, writeAheadMode // for writing and for reading
	page[21], page[22], page[23] = 64, 32, 32           // payload fractions, which are fixed
	binary.BigEndian.PutUint32(page[24:], 1)            // file change counter
	binary.BigEndian.PutUint32(page[28:], 1)            // pages
	binary.BigEndian.PutUint32(page[92:], 1)            // the change counter that the number of pages is valid for
	page[100] = tableLeaf                               // the schema, which is empty
	binary.BigEndian.PutUint16(page[105:], pageSize)    // where its content begins
	return page
}
