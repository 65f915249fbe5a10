-- The start that follows when the job has stopped, and who has asked for it: JSON.
ALTER TABLE tasks ADD COLUMN next TEXT;
